import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from training.config import Schedule
from training.loop import Batches, Epoch, Objective, evaluate, train


class Bright(nn.Module):
    """Two logits a frame from its mean grey."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 2)

    def forward(self, frames: Tensor) -> Tensor:
        answer: Tensor = self.line(frames.float().mean(dim=(1, 2, 3), keepdim=False)[:, None] / 255)
        return answer


def right(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == targets).float()[:, None]


OBJECTIVE = Objective(loss=nn.functional.cross_entropy, measure=right, measures=("accuracy",))


def batches(count: int, size: int, *, flipped: bool = False) -> Batches:
    rng = torch.Generator().manual_seed(count)
    frames = torch.randint(0, 256, (count, 1, 1, 1), dtype=torch.uint8, generator=rng)
    bright = (frames.flatten() > 127).to(torch.int64)
    return DataLoader(TensorDataset(frames, 1 - bright if flipped else bright), batch_size=size)


@pytest.fixture
def fabric() -> Fabric:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fabric.seed_everything(0, verbose=False)
    return fabric


def test_training_learns_and_tells_every_epoch(fabric: Fabric) -> None:
    told: list[Epoch] = []
    loaders = (batches(64, 8), batches(32, 8))
    train(fabric, Bright(), OBJECTIVE, loaders, Schedule(epochs=20, learning_rate=0.5), told.append)
    assert [epoch.number for epoch in told] == list(range(1, 21))
    assert told[-1].training_loss < 0.5 * told[0].training_loss
    assert told[-1].validation["accuracy"] > 0.9


def test_the_weights_are_those_of_the_lowest_validation_loss(fabric: Fabric) -> None:
    # the validation labels contradict the training labels: the first epoch is the best
    told: list[Epoch] = []
    network = Bright()
    kept: list[dict[str, Tensor]] = []

    def after(epoch: Epoch) -> None:
        told.append(epoch)
        kept.append(copy.deepcopy(network.state_dict()))

    loaders = (batches(64, 8), batches(32, 8, flipped=True))
    best = train(fabric, network, OBJECTIVE, loaders, Schedule(epochs=5, learning_rate=0.1), after)
    least = min(range(5), key=lambda n: told[n].validation["loss"])
    assert least < 4
    assert all(torch.equal(best[name], kept[least][name]) for name in best)


def test_every_frame_weighs_the_same_in_an_uneven_last_batch(fabric: Fabric) -> None:
    network = Bright()
    uneven, whole = (evaluate(fabric, network, OBJECTIVE, batches(10, size)) for size in (4, 10))
    assert uneven == pytest.approx(whole)


def test_a_measure_that_says_nothing_of_some_frames_averages_the_others(fabric: Fabric) -> None:
    def sometimes(logits: Tensor, targets: Tensor) -> Tensor:
        rows = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [0.5, torch.nan]])
        return rows[: len(logits)]

    objective = Objective(loss=OBJECTIVE.loss, measure=sometimes, measures=("some", "never"))
    scores = evaluate(fabric, Bright(), objective, batches(3, 3))
    assert scores["some"] == 0.75
    assert scores["never"] != scores["never"]

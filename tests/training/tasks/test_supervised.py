from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dicom_node.records import Task
from tests.support.finetuning import settings
from training import losses, tasks
from training.tasks import Supervised

NAMES = {
    Task.SEGMENTATION: ("liver", "kidney"),
    Task.QUALITY: (),
    Task.CLASSIFICATION: tuple("abc"),
}


def built(task: Task, **changes: object) -> Supervised:
    torch.manual_seed(0)
    return tasks.build(settings(task, **changes), NAMES[task])


def batch(task: Task, frames: int = 4) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shape = (frames, 64, 64) if task is Task.SEGMENTATION else (frames,)
    target = {Task.SEGMENTATION: "mask", Task.QUALITY: "quality", Task.CLASSIFICATION: "class"}
    return {
        "frames": torch.randint(0, 256, (frames, 1, 64, 64), dtype=torch.uint8, generator=rng),
        target[task]: torch.randint(0, 3, shape, generator=rng),
    }


def learned(task: Supervised, frames: dict[str, Tensor], steps: int = 3) -> None:
    [player] = task.players.values()
    for _ in range(steps):
        player.network.train()
        task.loss("network", {"network": player.network}, frames)["loss"].backward()
        player.optimizer.step()
        player.optimizer.zero_grad()


@pytest.mark.parametrize("kind", list(Task))
def test_every_task_learns_and_measures_a_row_a_frame(kind: Task) -> None:
    task, frames = built(kind), batch(kind)
    networks = {"network": task.network}
    before = task.loss("network", networks, frames)["loss"]
    learned(task, frames, steps=10)
    assert task.loss("network", networks, frames)["loss"] < before
    task.network.eval()
    rows = task.measure(networks, frames)
    assert rows.shape == (4, len(task.measures))
    assert task.measures[0] == "loss"
    assert torch.equal(rows[:, 0], task.loss("network", networks, frames)["loss"].expand(4))


@pytest.mark.parametrize("kind", list(Task))
def test_an_empty_part_of_a_batch_has_no_rows(kind: Task) -> None:
    task = built(kind)
    task.network.eval()
    rows = task.measure({"network": task.network}, batch(kind, frames=0))
    assert rows.shape == (0, len(task.measures))


@pytest.mark.parametrize("kind", list(Task))
def test_freezing_keeps_every_tensor_of_the_encoder_bit_for_bit(kind: Task) -> None:
    task = built(kind, freeze=True)
    encoder = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    head = {n: v.clone() for n, v in task.network.state_dict().items() if "encoder" not in n}
    assert any("running_mean" in name for name in encoder)
    learned(task, batch(kind))
    after = task.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in encoder.items())
    after = task.network.state_dict()
    assert not any(torch.equal(v, after[n]) for n, v in head.items() if n.endswith("weight"))


class _Frames:
    """Two batches."""

    def __init__(self, kind: Task) -> None:
        self._batch = batch(kind)

    def __len__(self) -> int:
        return 2

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        yield from (self._batch, self._batch)


@pytest.mark.parametrize("kind", list(Task))
@pytest.mark.parametrize("how", ["freeze", "last_block"])
def test_a_random_encoder_is_frozen_with_the_statistics_of_training_frames(
    kind: Task, how: str
) -> None:
    task, frames = built(kind, **{how: True}), batch(kind)["frames"]
    task.find_statistics(_Frames(kind), torch.device("cpu"))

    inner: list[Tensor] = []
    first = next(m for m in task.encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))
    # a copy: the next layer writes into it
    first.register_forward_hook(lambda _, given, out: inner.append(out.clone()))
    task.network.eval()
    with torch.no_grad():
        task.network(frames)
    assert inner[0].mean().abs() < 0.05
    assert inner[0].std() == pytest.approx(1, abs=0.05)


def test_an_encoder_that_learns_needs_no_statistics_before() -> None:
    task = built(Task.CLASSIFICATION)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    task.find_statistics(_Frames(Task.CLASSIFICATION), torch.device("cpu"))
    after = task.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_all_but_the_last_block_can_be_frozen() -> None:
    task = built(Task.CLASSIFICATION, last_block=True)
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    learned(task, batch(Task.CLASSIFICATION))
    after = task.encoder.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    # of the small encoder the last of five levels, batch statistics included
    assert changed == {name for name in before if name.startswith("levels.4.")}


def test_without_freezing_every_weight_and_statistic_of_the_encoder_moves() -> None:
    task = built(Task.QUALITY)
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    learned(task, batch(Task.QUALITY))
    after = task.encoder.state_dict()
    assert not any(torch.equal(value, after[name]) for name, value in before.items())


def test_the_mean_dice_is_that_of_the_labels_of_a_frame() -> None:
    task, frames = built(Task.SEGMENTATION), batch(Task.SEGMENTATION)
    assert task.measures == ("loss", "dice", "dice_liver", "dice_kidney")
    rows = task.measure({"network": task.network.eval()}, frames)
    assert torch.allclose(rows[:, 1], rows[:, 2:].nanmean(dim=1), equal_nan=True)


def test_one_label_has_one_dice() -> None:
    task = tasks.build(settings(Task.SEGMENTATION), ("nodule",))
    assert task.measures == ("loss", "dice")
    rows = task.measure({"network": task.network.eval()}, batch(Task.SEGMENTATION))
    assert rows.shape == (4, 2)


def test_values_of_a_mask_that_are_no_label_are_background() -> None:
    task, frames = built(Task.SEGMENTATION), batch(Task.SEGMENTATION)
    odd = frames | {"mask": torch.where(frames["mask"] == 0, 255, frames["mask"])}
    networks = {"network": task.network.eval()}
    one, other = (task.measure(networks, each) for each in (frames, odd))
    assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_the_loss_of_the_quality_takes_its_positive_weight_from_the_settings() -> None:
    frames, task = batch(Task.QUALITY), built(Task.QUALITY, positive_weight=5.0)
    networks = {"network": task.network.eval()}
    logits = task.network(frames["frames"])
    expected = losses.ordinal_loss(logits, frames["quality"], positive_weight=5.0)
    assert torch.equal(task.loss("network", networks, frames)["loss"], expected)


def test_cross_entropy_is_added_where_it_is_wanted() -> None:
    frames = batch(Task.SEGMENTATION)
    plain, more = built(Task.SEGMENTATION), built(Task.SEGMENTATION, cross_entropy=0.5)
    logits = plain.network(frames["frames"])
    extra = 0.5 * torch.nn.functional.cross_entropy(logits, frames["mask"])
    dice, both = (
        task.loss("network", {"network": task.network}, frames)["loss"] for task in (plain, more)
    )
    assert torch.allclose(both, dice + extra)

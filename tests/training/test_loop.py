import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dicom_node.errors import StoreError
from tests.conftest import REPOSITORY
from training import pack, pretexts, recipes, runs
from training.batches import Batches
from training.config import PretrainSettings, Size
from training.loop import Batch, Epoch, Fitted, Networks, Plan, Player, fit, measure
from training.pack import Pack

SIZE = Size(height=64, width=64)
EPOCHS = 3


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack.build(phantom_store, tmp_path_factory.mktemp("packs") / "pack", SIZE)


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def batches(phantoms: Pack) -> tuple[Batches, Batches]:
    training, validation = (
        Batches(
            phantoms,
            phantoms.select(split=split)[:16],
            targets=("tags",),
            batch_size=8,
            seed=3,
            training=split == "train",
            device=torch.device("cpu"),
        )
        for split in ("train", "validation")
    )
    return training, validation


def task() -> pretexts.Pretext:
    torch.manual_seed(5)
    return pretexts.build(
        PretrainSettings(
            strategy=recipes.load("ce_dcm"),
            encoder="small",
            encoder_width=4,
            size=SIZE,
            learning_rate=1e-3,
        )
    )


class InterruptionError(Exception):
    """Stands for a kill: it ends the loop where no handler is."""


def stop_after(number: int) -> Callable[[Epoch], None]:
    def look(epoch: Epoch) -> None:
        if epoch.number == number:
            raise InterruptionError

    return look


def what_was_learned(fitted: Fitted) -> list[object]:
    """All of a loop's outcome but its speed."""
    return [(e.number, e.training, e.validation, e.is_best) for e in fitted.epochs]


def test_a_run_that_was_interrupted_goes_on_as_if_nothing_had_happened(
    phantoms: Pack, fabric: Fabric, tmp_path: Path
) -> None:
    whole = fit(fabric, task(), batches(phantoms), Plan(epochs=EPOCHS, seed=1))
    plan = Plan(epochs=EPOCHS, seed=1, run=tmp_path, checkpoint_s=0)
    with pytest.raises(InterruptionError):
        fit(fabric, task(), batches(phantoms), plan, stop_after(2))
    assert (tmp_path / runs.CHECKPOINT).exists()
    told: list[int] = []
    resumed = fit(fabric, task(), batches(phantoms), plan, lambda epoch: told.append(epoch.number))
    assert told == [1, 2, 3]
    assert what_was_learned(resumed) == what_was_learned(whole)
    for name, weights in whole.best.items():
        for key, value in weights.items():
            assert torch.equal(resumed.best[name][key], value), key


def test_the_epoch_with_the_lowest_validation_loss_is_kept(phantoms: Pack, fabric: Fabric) -> None:
    learner = task()
    fitted = fit(fabric, learner, batches(phantoms), Plan(epochs=EPOCHS, seed=1))
    losses = [epoch.validation["loss"] for epoch in fitted.epochs]
    assert fitted.chosen.number == 1 + int(np.argmin(losses))
    for name, player in learner.players.items():
        player.network.load_state_dict(fitted.best[name])
    rows = measure(fabric, learner, batches(phantoms)[1])
    assert rows.shape == (len(batches(phantoms)[1].rows), len(learner.measures))
    assert rows[:, 0].mean() == pytest.approx(min(losses), rel=1e-5)


def test_another_seed_gives_another_run(phantoms: Pack, fabric: Fabric) -> None:
    assert {
        fit(fabric, Dropping(), batches(phantoms), Plan(epochs=1, seed=seed))
        .epochs[0]
        .training["network/loss"]
        for seed in (1, 1, 2)
    }.__len__() == 2


class Dropping:
    """Learns the mean of a frame through dropout, which draws."""

    measures = ("loss",)

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * 64, 1))
        self.players = {"network": Player(network, torch.optim.SGD(network.parameters(), lr=1e-9))}

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.measure(networks, batch).mean()}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        frames = batch["frames"].float()
        return (networks["network"](frames) - frames.mean(dim=(1, 2, 3))[:, None]).square()


class Exploding(Dropping):
    """Learns so fast that its loss is no number after a step."""

    def __init__(self) -> None:
        super().__init__()
        network = self.players["network"].network
        self.players = {"network": Player(network, torch.optim.SGD(network.parameters(), lr=1e30))}


def test_a_loss_that_is_no_number_ends_the_run_with_a_cure(
    phantoms: Pack, fabric: Fabric, tmp_path: Path
) -> None:
    # it is at full precision already, and nobody is told to take that
    said = r"epoch 1: the loss is no number any more; take a smaller --learning-rate$"
    with pytest.raises(StoreError, match=said):
        fit(fabric, Exploding(), batches(phantoms), Plan(epochs=2, seed=1, run=tmp_path))
    assert not (tmp_path / runs.CHECKPOINT).exists()


def test_schedulers_step_once_a_batch(phantoms: Pack, fabric: Fabric) -> None:
    learner = Dropping()
    player = learner.players["network"]
    player.scheduler = torch.optim.lr_scheduler.StepLR(player.optimizer, step_size=1, gamma=0.5)
    training, validation = batches(phantoms)
    fitted = fit(fabric, learner, (training, validation), Plan(epochs=2, seed=1))
    assert fitted.epochs[-1].learning_rate == pytest.approx(1e-9 * 0.5 ** (2 * len(training)))


@pytest.mark.parametrize(
    ("precision", "expected"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)]
)
def test_the_discriminator_computes_at_the_precision_of_the_run_in_both_turns(
    phantoms: Pack, precision: str, expected: torch.dtype
) -> None:
    learner, seen = task(), []
    discriminator = learner.players["discriminator"].network
    first = next(module for module in discriminator.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    training, validation = batches(phantoms)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    fit(fabric, learner, (training, validation), Plan(epochs=1, seed=1))
    assert seen == [expected] * (2 * len(training) + len(validation))


class Eager(nn.Linear):
    """A layer that counts the calls in which it is not compiled."""

    calls = 0

    def forward(self, features: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.calls += 1
        return super().forward(features)


class Duel:
    """A filler that is judged in its own turn, by a judge who learns in another."""

    measures = ("loss",)

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = {"judge": Eager(16, 1), "filler": Eager(64 * 64, 16)}
        self.players = {
            name: Player(layer, torch.optim.SGD(layer.parameters(), lr=0.1))
            for name, layer in layers.items()
        }

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        frames = batch["frames"].flatten(1) / 255
        if turn == "judge":
            return {"loss": (networks["judge"](frames[:, :16]) - 1).square().mean()}
        judge = self.players["judge"]
        judge.network.requires_grad_(False)
        loss = (judge.judge(networks["filler"](frames)) - 2).square().mean()
        judge.network.requires_grad_(True)
        return {"loss": loss}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        return networks["judge"](networks["filler"](batch["frames"].flatten(1) / 255))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler: apt-get install g++")
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it, but not as an error
def test_compiled_networks_learn_what_others_learn(phantoms: Pack, fabric: Fabric) -> None:
    fitted, eager = [], []
    for is_compiled in (False, True):
        duel = Duel()
        plan = Plan(epochs=2, seed=1, compile=is_compiled)
        fitted.append(fit(fabric, duel, batches(phantoms), plan))
        eager.append([player.network.calls for player in duel.players.values()])
    plain, compiled = fitted
    assert min(eager[0]) > 0
    assert eager[1] == [0, 0]
    for one, other in zip(plain.epochs, compiled.epochs, strict=True):
        assert other.training == pytest.approx(one.training, rel=1e-3)
    assert {name: weights.keys() for name, weights in plain.best.items()} == {
        name: weights.keys() for name, weights in compiled.best.items()
    }


@pytest.mark.timeout(240)  # three processes are started, each of which loads torch
def test_two_processes_take_the_steps_that_one_takes(phantoms: Pack, tmp_path: Path) -> None:
    weights = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.pt"
        arguments = ["-m", "tests.support.processes", str(phantoms.folder), str(out), str(devices)]
        # each process with one thread: as many as that would wait for each other
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        weights.append(runs.load_state(out))
    one, two = weights
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-4, atol=1e-6), name
    assert not torch.equal(one["0.weight"], one["first"])

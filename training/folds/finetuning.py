"""Fine-tune on the training clips of a fold, choose on its validation clips, test on the fold.

Beside it every epoch is measured on the test fold, which chooses nothing: published tables give the
best of these.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from training import runs, tasks
from training.batches import Batches, Source, fitting
from training.config import FinetuneSettings
from training.engine import first_alone
from training.loop import Batch, Fitted, Plan, Player, fit
from training.pack import Pack
from training.runs import RunInfo
from training.tasks import Supervised, labels, starts

#: of a run's metrics: what a table would say that chose the epoch on the test fold
PEEKED: Final = "best_epoch_on_test_accuracy"
_TEST_ACCURACY: Final = "test_accuracy"


class Watched:
    """A classification that is also measured on the test frames; they choose nothing."""

    measures: tuple[str, ...] = ("loss", "accuracy", _TEST_ACCURACY)

    def __init__(self, task: Supervised) -> None:
        self._task = task

    @property
    def players(self) -> dict[str, Player]:
        """Those of the task."""
        return self._task.players

    def loss(self, turn: str, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return that of the task."""
        return self._task.loss(turn, networks, batch)

    def measure(self, networks: Mapping[str, nn.Module], batch: Batch) -> Tensor:
        """Return loss and accuracy of validation frames, or the accuracy of test frames, (N, 3)."""
        rows = self._task.measure(networks, batch)  # (N, 2)
        nothing = torch.full_like(rows, torch.nan)
        if bool(batch["is_tested"]):
            return torch.cat((nothing, rows[:, 1:]), dim=1)
        return torch.cat((rows, nothing[:, :1]), dim=1)


@dataclass(frozen=True, eq=False)
class Both:
    """Validation batches, then test batches, each saying which it is."""

    validation: Source
    tested: Source

    def __len__(self) -> int:
        return len(self.validation) + len(self.tested)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of both."""
        for source, is_tested in ((self.validation, False), (self.tested, True)):
            for batch in source.epoch(number):
                yield batch | {"is_tested": torch.tensor(is_tested)}


def finetune(
    settings: FinetuneSettings,
    pack: Pack,
    fabric: Fabric,
    *,
    run: Path,
    start: Path | None = None,
    imagenet: Path | None = None,
) -> RunInfo:
    """Train, choose the epoch by the validation clips' loss, and test that epoch.

    A run that is there already is gone on with, or returned if it is finished. Parameters are those
    of `training.finetune.finetune`; the folder gets ``network.pt``, and ``scores.npz`` with the
    true and the predicted class of each test frame.

    Raises
    ------
    ConfigError
        When the folder holds something else.
    StoreError
        When the labels cannot teach this, or the weights to start from do not fit.
    """
    rows = labels.splits(pack, settings)
    origin = starts.find(settings, start, imagenet)
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    task = tasks.build(settings, labels.names(pack, settings))
    origin.fill(task.encoder)
    wanted = RunInfo(
        kind="fold",
        settings=settings,
        store_version=pack.store_version,
        start=origin.text,
        training_frames=len(rows["train"]),
    )
    info = first_alone(fabric, lambda: runs.begin(run, wanted))
    if info.finished_at is not None:
        return info
    batches = {
        split: _batches(settings, pack, fabric, rows[split], training=split == "train")
        for split in ("train", "validation", "test")
    }
    if origin.is_random:
        task.find_statistics(batches["train"], fabric.device)
    _pace(task, settings, steps=settings.epochs * len(batches["train"]))
    both = Both(batches["validation"], batches["test"])
    plan = Plan(epochs=settings.epochs, seed=settings.seed, run=run)
    fitted = fit(fabric, Watched(task), (batches["train"], both), plan)
    task.network.load_state_dict(fitted.best["network"])
    tested = Batches(
        pack,
        rows["test"],
        targets=("class",),
        batch_size=settings.batch_size,
        training=False,
        device=fabric.device,
        labels=settings.labels,
    )
    truth, predicted = _predict(fabric, task.network, tested)

    def finish() -> RunInfo:
        known = {name: getattr(pack.rows, name)[rows["test"]] for name in runs.IDENTITIES}
        content = io.BytesIO()
        np.savez(content, truth=truth, predicted=predicted, **known)
        runs.replace(run / runs.SCORES, content.getvalue())
        runs.save(run / runs.NETWORK, fitted.best["network"])
        return _finish(run, info, fitted)

    return first_alone(fabric, finish)


def _batches(
    settings: FinetuneSettings, pack: Pack, fabric: Fabric, rows: labels.Rows, *, training: bool
) -> Batches:
    world = fabric.world_size
    return Batches(
        pack,
        rows,
        targets=("class",),
        batch_size=fitting(settings.batch_size, len(rows), world if training else 1),
        seed=settings.seed,
        training=training,
        rank=fabric.global_rank,
        world=world,
        device=fabric.device,
        labels=settings.labels,
    )


def _pace(task: Supervised, settings: FinetuneSettings, *, steps: int) -> None:
    if settings.pace == "one_cycle":
        for player in task.players.values():
            player.scheduler = OneCycleLR(
                player.optimizer, max_lr=settings.learning_rate, total_steps=steps
            )


@torch.no_grad()
def _predict(fabric: Fabric, network: nn.Module, batches: Batches) -> tuple[Any, Any]:
    """Return the true and the likeliest class of each frame, int64 (N,) each."""
    network.eval()
    with fabric.autocast():
        found = [
            (batch["class"], network(batch["frames"]).argmax(dim=1)) for batch in batches.epoch(0)
        ]
    truth, predicted = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
    return truth, predicted


def _finish(run: Path, info: RunInfo, fitted: Fitted) -> RunInfo:
    """Say what came out; with this the run is finished."""
    found = {
        "validation_loss": fitted.chosen.validation["loss"],
        "validation_accuracy": fitted.chosen.validation["accuracy"],
        _TEST_ACCURACY: fitted.chosen.validation[_TEST_ACCURACY],
        PEEKED: max(epoch.validation[_TEST_ACCURACY] for epoch in fitted.epochs),
    }
    done = info.finished(
        metrics={name: round(value, 6) for name, value in found.items()},
        best_epoch=fitted.chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, done)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return done

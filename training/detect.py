"""Detection and outlines of lesions by Mask R-CNN, from the masks that readers gave."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, LRScheduler, StepLR

from dicom_node.errors import StoreError
from models import encoders
from models.detector import HEADS, Detector
from training import lesions, runs
from training.batches import Batches, fitting
from training.config import DetectSettings, FinetuneSettings
from training.engine import first_alone
from training.loop import Batch, Epoch, Fitted, Plan, Player, fit
from training.pack import Pack
from training.runs import RunInfo
from training.tasks import labels, starts

#: As the published code has them.
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4
#: the learning rate falls by `_DROP` after each of so many parts of the epochs
_PARTS, _DROP = 3, 0.1
#: in the first epoch, but for so many steps at most, the rate rises from this part of itself: the
#: heads begin with large errors, and at the whole rate these throw weights off that were learned
_WARM_UP_STEPS, _WARM_UP_FROM = 1000, 1e-3
#: what is less sure than this is not shown when the epoch is chosen
_SURE: Final = 0.5


class Detection:
    """One detector, for `training.loop`.

    The epoch is chosen by the Dice of all that is found in a validation frame against all that is
    there: Mask R-CNN tells its loss in training alone.
    """

    measures: tuple[str, ...] = ("loss", "dice")

    def __init__(self, network: Detector, settings: FinetuneSettings) -> None:
        learning = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = SGD(
            learning, lr=settings.learning_rate, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY
        )
        self.players = {"network": Player(network=network, optimizer=optimizer)}

    def loss(self, turn: str, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the sum of what Mask R-CNN makes small, and its parts."""
        parts = networks[turn](batch["frames"], lesions.targets_of(batch["mask"]))
        return {**parts, "loss": torch.stack(list(parts.values())).sum()}

    def measure(self, networks: Mapping[str, nn.Module], batch: Batch) -> Tensor:
        """Return 1 - Dice and Dice of each frame, (N, 2); 1 is right about nothing."""
        found = networks["network"](batch["frames"]) if len(batch["frames"]) else []
        rows = torch.zeros(len(found), 2, device=batch["frames"].device)
        for row, each, mask in zip(rows, found, batch["mask"], strict=True):
            seen, there = lesions.union(each, _SURE), mask > 0
            both, either = (seen & there).sum(), seen.sum() + there.sum()
            row[1] = torch.where(either > 0, 2 * both / either, 1.0)
        rows[:, 0] = 1 - rows[:, 1]
        return rows


def detect(  # noqa: PLR0913 (as `training.finetune.finetune`)
    settings: DetectSettings,
    pack: Pack,
    fabric: Fabric,
    *,
    run: Path,
    start: Path | None = None,
    imagenet: Path | None = None,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> RunInfo:
    """Train on the split ``train``, choose the epoch on ``validation``, measure AP on ``test``.

    With weights to start from, a ResNet's stem and first stage are kept, as published; a random one
    learns whole. Parameters are those of `training.finetune.finetune`, the task is a segmentation.

    Raises
    ------
    ConfigError
        When the folder holds something else.
    StoreError
        When there are no masks to learn from, no lesion in a test frame, or the weights to start
        from do not fit.
    """
    rows = labels.splits(pack, settings)
    check_tested(pack, rows["test"])
    origin = starts.find(settings, start, imagenet)
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    network = build(settings, len(labels.names(pack, settings)))
    origin.fill(network.encoder)
    if start is not None or imagenet is not None:
        network.freeze_early()
    wanted = RunInfo(
        kind="detect",
        settings=settings,
        store_version=pack.store_version,
        start=origin.text,
        training_frames=len(rows["train"]),
    )
    info = first_alone(fabric, lambda: runs.begin(run, wanted))
    if info.finished_at is not None:
        return info
    training, validation, tested = (
        Batches(
            pack,
            rows[split],
            targets=("mask",),
            batch_size=fitting(
                settings.batch_size, len(rows[split]), fabric.world_size * (split == "train") or 1
            ),
            seed=settings.seed,
            training=split == "train",
            # every process tests all frames, which needs no putting together
            rank=fabric.global_rank if split != "test" else 0,
            world=fabric.world_size if split != "test" else 1,
            device=fabric.device,
            labels=settings.labels,
        )
        for split in ("train", "validation", "test")
    )
    task = Detection(network, settings)
    [player] = task.players.values()
    player.scheduler = paced(player.optimizer, epochs=settings.epochs, steps=len(training))
    plan = Plan(epochs=settings.epochs, seed=settings.seed, run=run)
    fitted = fit(fabric, task, (training, validation), plan, after_epoch)
    network.load_state_dict(fitted.best["network"])
    precision = _test(network, tested)
    return first_alone(fabric, lambda: _finish(run, info, fitted, precision))


def check_tested(pack: Pack, rows: NDArray[np.int64]) -> None:
    """Look for one lesion that can be found: without any, average precision is no number.

    Parameters
    ----------
    pack : Pack
    rows : ndarray of int64, (N,)
        Of the test frames.

    Raises
    ------
    StoreError
        When none of them shows a lesion.
    """
    for row in rows:
        if pack.masks is None:
            break
        mask = torch.from_numpy(pack.masks[row][None].astype(np.int64))
        if len(lesions.targets_of(mask)[0]["labels"]):
            return
    raise StoreError(
        f"none of {len(rows)} test frames shows a lesion of {lesions.SMALLEST_PX} pixels or more, "
        "and average precision needs one to be found; label frames of more patients"
    )


def build(settings: DetectSettings, classes: int) -> Detector:
    """Return the untrained detector of a run's settings; `classes` are without background."""
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    size, heads = settings.size, HEADS[settings.heads]
    return Detector(encoder, classes, height=size.height, width=size.width, heads=heads)


def paced(optimizer: Optimizer, *, epochs: int, steps: int) -> LRScheduler:
    """Return the learning rate's way: up within the first epoch, then down in steps.

    Parameters
    ----------
    optimizer : Optimizer
        At the whole rate.
    epochs : int
        Of the run.
    steps : int
        Of an epoch.
    """
    up = LinearLR(
        optimizer,
        start_factor=_WARM_UP_FROM,
        total_iters=max(1, min(_WARM_UP_STEPS, steps - 1)),
    )
    down = StepLR(optimizer, step_size=max(1, epochs // _PARTS) * steps, gamma=_DROP)
    return ChainedScheduler([up, down])


@torch.no_grad()
def _test(network: Detector, batches: Batches) -> dict[str, float]:
    """Return average precision over all frames."""
    network.eval()
    found: list[dict[str, Tensor]] = []
    wanted: list[dict[str, Tensor]] = []
    for batch in batches.epoch(0):
        found += cast(list[dict[str, Tensor]], network(batch["frames"]))
        wanted += lesions.targets_of(batch["mask"])
    return lesions.average_precision(found, wanted)


def _finish(run: Path, info: RunInfo, fitted: Fitted, precision: dict[str, float]) -> RunInfo:
    """Say what came out; with this the run is finished."""
    found = {f"test_{name}": value for name, value in precision.items()}
    found |= {"validation_dice": fitted.chosen.validation["dice"]}
    runs.save(run / runs.NETWORK, fitted.best["network"])
    done = info.finished(
        metrics={name: round(value, 6) for name, value in found.items()},
        best_epoch=fitted.chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, done)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return done

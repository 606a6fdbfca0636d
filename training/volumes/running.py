"""A run on volumes: from settings to a folder, with the loop of the frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from dicom_node.errors import ConfigError, StoreError
from training import runs
from training.batches import fitting
from training.config import SeriesSettings, VolumeSegmentSettings, VolumeSettings
from training.engine import first_alone
from training.loop import Epoch, Fitted, Plan, fit
from training.runs import RunInfo
from training.tasks.starts import digest
from training.volumes.scores import Scores, write_scores
from training.volumes.source import VolumeBatches, VolumeSet, check_masks
from training.volumes.targets import answers
from training.volumes.tasks import NamingSeries, SegmentingVolumes

Told = Callable[[Epoch], None]
SCRATCH: Final = "random"
#: Training patients of a share, however small.
_FEWEST: Final = 2


def name_series(
    settings: SeriesSettings,
    volumes: VolumeSet,
    fabric: Fabric,
    *,
    run: Path,
    after_epoch: Told = lambda epoch: None,
) -> RunInfo:
    """Pretrain by the labels of series; the test patients' answers are kept for the tables.

    A run that is there already is gone on with, or returned if it is finished.

    Raises
    ------
    ConfigError
        When the folder holds something else.
    StoreError
        When the volumes cannot teach this; says what is missing.
    """
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    task = NamingSeries(settings)
    train = _places(volumes)["train"]
    known = volumes.targets is not None and np.isfinite(volumes.targets[train, :-1]).any()
    if not known:
        raise StoreError(
            f"none of {len(train)} training volumes has a label; see docs/volumes.md for what the "
            "headers must say"
        )
    wanted = RunInfo(
        kind="series",
        settings=settings,
        store_version=volumes.version,
        training_frames=len(train),
    )
    return _run(task, wanted, volumes, fabric, run, after_epoch)


def segment(
    settings: VolumeSegmentSettings,
    volumes: VolumeSet,
    fabric: Fabric,
    *,
    run: Path,
    start: Path | None = None,
    after_epoch: Told = lambda epoch: None,
) -> RunInfo:
    """Learn masks, from the encoder of a run of `name_series` or from random weights.

    Raises
    ------
    ConfigError
        When the folder holds something else, or nothing is there to be kept as it is.
    StoreError
        When the start is not finished or of another network, or the volumes cannot teach this: a
        mask holds a value that has no label, too.
    """
    if start is None and settings.freeze is not None:
        raise ConfigError("--freeze: random weights are not worth keeping; name --start RUN")
    origin = SCRATCH if start is None else _told(start)
    first_alone(fabric, lambda: check_masks(volumes, settings.labels))
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    task = SegmentingVolumes(settings)
    if start is not None:
        runs.load(start / runs.ENCODER, task.network.encoder)
    places = _places(volumes, settings.share, settings.seed)
    wanted = RunInfo(
        kind="segment volumes",
        settings=settings,
        store_version=volumes.version,
        start=origin,
        training_frames=len(places["train"]),
    )
    return _run(task, wanted, volumes, fabric, run, after_epoch)


def _told(start: Path) -> str:
    """Say of which weights a run is made: others of the same name make another run."""
    info = runs.read(start)
    if info.kind != "series":
        raise StoreError(
            f"{start}: a run of {info.kind!r}; name one of 'train volumes pretrain', or give no "
            "--start"
        )
    if info.finished_at is None:
        raise StoreError(
            f"{start}: not finished; give the same 'train volumes pretrain' again to go on"
        )
    return f"{start.name} store={info.store_version} {digest(start / runs.ENCODER)}"


def _places(volumes: VolumeSet, share: float = 1.0, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """Return the volumes of each split, of the training patients a share.

    Patients are drawn once by the seed, so that smaller shares lie in larger ones.
    """
    places = {split: volumes.of_split(split) for split in ("train", "validation", "test")}
    for split, found in places.items():
        if not len(found):
            raise StoreError(
                f"no volume falls into the split {split!r}: take volumes of more patients; "
                "ten or more are safe"
            )
    patients = sorted({volumes.patients[place] for place in places["train"]})
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = {patients[at] for at in order[: max(_FEWEST, round(share * len(patients)))]}
    chosen = [place for place in places["train"] if volumes.patients[place] in kept]
    return places | {"train": np.array(chosen, np.int64)}


def _run(
    task: NamingSeries | SegmentingVolumes,
    wanted: RunInfo,
    volumes: VolumeSet,
    fabric: Fabric,
    run: Path,
    after_epoch: Told,
) -> RunInfo:
    info = first_alone(fabric, lambda: runs.begin(run, wanted))
    if info.finished_at is not None:
        return info
    settings = cast(VolumeSettings, wanted.settings)
    share = settings.share if isinstance(settings, VolumeSegmentSettings) else 1.0
    places = _places(volumes, share, settings.seed)

    def batches(split: str) -> VolumeBatches:
        is_train = split == "train"
        world = fabric.world_size if is_train else 1
        return VolumeBatches(
            volumes,
            places[split],
            batch_size=fitting(settings.batch_size, len(places[split]), world=world),
            training=is_train,
            seed=settings.seed,
            shrink=settings.shrink,
            rank=fabric.global_rank,
            world=fabric.world_size,
            device=fabric.device,
        )

    plan = Plan(epochs=settings.epochs, seed=settings.seed, run=run)
    fitted = fit(fabric, task, (batches("train"), batches("validation")), plan, after_epoch)
    test = places["test"]
    one = VolumeBatches(
        volumes,
        test,
        batch_size=settings.batch_size,
        training=False,
        shrink=settings.shrink,
        device=torch.device("cpu"),
    )
    return first_alone(fabric, lambda: _finish(run, info, task, fitted, one))


def _finish(
    run: Path,
    info: RunInfo,
    task: NamingSeries | SegmentingVolumes,
    fitted: Fitted,
    test: VolumeBatches,
) -> RunInfo:
    [(name, _)] = task.players.items()
    network = task.network
    network.load_state_dict(fitted.best[name])
    runs.save(run / runs.NETWORK, fitted.best[name])
    runs.save(run / runs.ENCODER, network.encoder.state_dict())
    scores = _tested(task, test)
    write_scores(run, scores)
    chosen = fitted.chosen
    metrics = {f"validation_{n}": v for n, v in chosen.validation.items() if np.isfinite(v)}
    info = info.finished(
        metrics=metrics | scores.means(),
        best_epoch=chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, info)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return info


@torch.no_grad()
def _tested(task: NamingSeries | SegmentingVolumes, test: VolumeBatches) -> Scores:
    """Return what the chosen network answers for the test volumes, on the CPU."""
    network = task.network.cpu().eval()
    rows, said = [], []
    for batch in test.epoch(0):
        rows.append(task.measure({"network": network}, batch).numpy())
        if isinstance(task, NamingSeries):
            logits = task.network(batch["frames"])
            said.append(answers(task.network.parts(logits)).numpy())
    volumes = test.volumes
    return Scores(
        measures=task.measures,
        rows=np.concatenate(rows),
        patients=tuple(volumes.patients[place] for place in test.places),
        targets=None if volumes.targets is None else volumes.targets[test.places],
        answers=np.concatenate(said) if said else None,
    )

"""Fine-tune one network on the labelled frames of a pack."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch.optim.lr_scheduler import OneCycleLR

from training import runs, tasks
from training.batches import Batches, fitting
from training.config import FinetuneSettings
from training.engine import first_alone
from training.loop import Epoch, Fitted, Plan, fit, measure
from training.pack import Pack
from training.runs import RunInfo
from training.tasks import Supervised, labels, starts

#: Of the validation patients, for export.
SAMPLE_FRAMES: Final = 16


def finetune(  # noqa: PLR0913 (where weights come from is no setting: a path says nothing elsewhere)
    settings: FinetuneSettings,
    pack: Pack,
    fabric: Fabric,
    *,
    run: Path,
    start: Path | None = None,
    imagenet: Path | None = None,
    compile_networks: bool = False,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> RunInfo:
    """Train on the split ``train``, choose the epoch on ``validation``, measure ``test``.

    A run that is there already is gone on with, or returned if it is finished.

    Parameters
    ----------
    settings : FinetuneSettings
        What to do.
    pack : Pack
        Frames of the size that the settings say.
    fabric : Fabric
        Launched.
    run : Path
        Folder to work in: ``network.pt``, ``scores.npz``, ``sample.npy``.
    start : Path, optional
        Folder of a pretraining, or its ``encoder.pt``.
    imagenet : Path, optional
        The published file of the same network.
    compile_networks : bool
        Hand them to ``torch.compile``.
    after_epoch : callable
        Told of each epoch.

    Raises
    ------
    ConfigError
        When the folder holds something else.
    StoreError
        When the labels cannot teach this task, or the weights to start from do not fit.
    """
    rows = labels.splits(pack, settings)
    origin = starts.find(settings, start, imagenet)
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    task = tasks.build(settings, labels.names(pack, settings))
    # before the folder is made: weights that do not fit leave nothing
    origin.fill(task.encoder)
    wanted = RunInfo(
        kind="finetune",
        settings=settings,
        store_version=pack.store_version,
        start=origin.text,
        training_frames=len(rows["train"]),
    )
    info = first_alone(fabric, lambda: runs.begin(run, wanted))
    if info.finished_at is not None:
        return info
    cut = partial(
        Batches,
        pack,
        targets=(task.target,),
        seed=settings.seed,
        device=fabric.device,
        labels=settings.labels,
    )
    training, validation = (
        cut(
            rows[split],
            # an evaluation takes parts of any size
            batch_size=fitting(
                settings.batch_size,
                len(rows[split]),
                world=fabric.world_size if split == "train" else 1,
            ),
            training=split == "train",
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
        for split in ("train", "validation")
    )
    if origin.is_random:
        task.find_statistics(training, fabric.device)
    _pace(task, settings, steps=settings.epochs * len(training))
    plan = Plan(epochs=settings.epochs, seed=settings.seed, run=run, compile=compile_networks)
    fitted = fit(fabric, task, (training, validation), plan, after_epoch)
    task.network.load_state_dict(fitted.best["network"])
    # every process measures all of them: that is simpler than to put parts together, and quick
    tested = cut(rows["test"], batch_size=settings.batch_size, training=False)
    table = (
        measure(fabric, task, tested) if len(rows["test"]) else np.empty((0, len(task.measures)))
    )

    def finish() -> RunInfo:
        scores = dict(zip(task.measures[1:], table.T[1:], strict=True))
        _write(run / runs.SAMPLE, np.save, _sample(pack, rows["validation"]))
        _write(run / runs.SCORES, np.savez, **_identities(pack, rows["test"]), **scores)
        runs.save(run / runs.NETWORK, fitted.best["network"])
        return _finish(run, info, fitted, scores)

    return first_alone(fabric, finish)


def _pace(task: Supervised, settings: FinetuneSettings, *, steps: int) -> None:
    if settings.pace == "one_cycle":
        for player in task.players.values():
            player.scheduler = OneCycleLR(
                player.optimizer, max_lr=settings.learning_rate, total_steps=steps
            )


def _identities(pack: Pack, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {name: getattr(pack.rows, name)[rows] for name in runs.IDENTITIES}


def _sample(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return frames from all over the rows, uint8 (n, 1, H, W)."""
    spread = np.linspace(0, len(rows) - 1, min(SAMPLE_FRAMES, len(rows))).round().astype(np.int64)
    return np.asarray(pack.frames[rows[spread]])[:, None]


def _write(path: Path, save: Callable[..., None], *arrays: Any, **named: Any) -> None:
    content = io.BytesIO()
    save(content, *arrays, **named)
    runs.replace(path, content.getvalue())


def _finish(run: Path, info: RunInfo, fitted: Fitted, scores: dict[str, NDArray[Any]]) -> RunInfo:
    """Say what came out; with this the run is finished."""
    chosen = fitted.chosen
    found = {f"validation_{name}": value for name, value in chosen.validation.items()}
    found |= {
        f"test_{name}": float(np.nanmean(column))
        for name, column in scores.items()
        if np.isfinite(column).any()
    }
    done = info.finished(
        metrics={name: round(v, 6) for name, v in found.items() if np.isfinite(v)},
        best_epoch=chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, done)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return done

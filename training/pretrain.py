"""Pretrain one encoder on all frames of a pack but those of the test patients."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training import pretexts, runs
from training.batches import Batches
from training.config import PretrainSettings
from training.loop import Epoch, Fitted, Plan, fit
from training.pack import Pack
from training.pretexts import Pretext
from training.runs import RunInfo

SPLITS: Final = ("train", "validation")


def pretrain(
    settings: PretrainSettings,
    pack: Pack,
    fabric: Fabric,
    *,
    run: Path,
    compile_networks: bool = False,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> RunInfo:
    """Train on the split ``train``, choose the epoch by the lowest loss on ``validation``.

    A run that is there already is gone on with, or returned if it is finished.

    Parameters
    ----------
    settings : PretrainSettings
        What to do; its strategy names a pretext.
    pack : Pack
        Frames of the size that the settings say.
    fabric : Fabric
        Launched.
    run : Path
        Folder to work in: ``encoder.pt`` for fine-tuning, ``network.pt`` of the whole.
    compile_networks : bool
        Hand them to ``torch.compile``.
    after_epoch : callable
        Told of each epoch.

    Raises
    ------
    ConfigError
        When the folder holds something else, or the strategy does not fit.
    StoreError
        When the pack cannot teach this; says what is missing.
    """
    rows = pack.splits()
    fabric.seed_everything(settings.seed, workers=True, verbose=False)
    pretext = pretexts.build(settings)
    _check(pack, rows["train"], pretext, settings)
    info = _begin(settings, pack, fabric, run, training_frames=len(rows["train"]))
    if info.finished_at is not None:
        return info
    training, validation = (
        Batches(
            pack,
            rows[split],
            targets=("tags",),
            batch_size=min(settings.batch_size, len(rows[split])),
            seed=settings.seed,
            training=split == "train",
            rank=fabric.global_rank,
            world=fabric.world_size,
            device=fabric.device,
        )
        for split in SPLITS
    )
    plan = Plan(epochs=settings.epochs, seed=settings.seed, run=run, compile=compile_networks)
    fitted = fit(fabric, pretext, (training, validation), plan, after_epoch)
    if fabric.is_global_zero:
        info = _finish(run, info, pretext, fitted)
    fabric.barrier()
    return runs.read(run)


def _check(
    pack: Pack, rows: NDArray[np.int64], pretext: Pretext, settings: PretrainSettings
) -> None:
    if not pretext.needs_tags:
        return
    tags = pack.tags()[rows]
    if not tags.any():
        raise StoreError(
            f"none of {len(tags)} training frames has a tag that the strategy "
            f"{settings.strategy.name!r} learns from: see 'dicom-node labels coverage', map the "
            "study descriptions, or pretrain without tags (--recipe ce)"
        )
    if len(np.unique(tags, axis=0)) == 1:
        raise StoreError(
            f"all {len(tags)} training frames bear the same tags: there is nothing to tell apart; "
            "harvest other examinations too, or pretrain without tags (--recipe ce)"
        )


def _begin(
    settings: PretrainSettings, pack: Pack, fabric: Fabric, run: Path, *, training_frames: int
) -> RunInfo:
    wanted = RunInfo(
        kind="pretrain",
        settings=settings,
        store_version=pack.store_version,
        training_frames=training_frames,
    )
    if fabric.is_global_zero:
        runs.begin(run, wanted)
    fabric.barrier()
    return runs.read(run)


def _finish(run: Path, info: RunInfo, pretext: Pretext, fitted: Fitted) -> RunInfo:
    for name, player in pretext.players.items():
        player.network.load_state_dict(fitted.best[name])
    kept = list(pretext.players)[-1]
    runs.save(run / runs.NETWORK, fitted.best[kept])
    runs.save(run / runs.ENCODER, pretext.encoder.state_dict())
    chosen = fitted.chosen
    info = info.finished(
        metrics={f"validation_{n}": v for n, v in chosen.validation.items() if np.isfinite(v)},
        best_epoch=chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, info)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return info

"""Pretrain one encoder on all frames of a pack but those of the test patients."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training import pretexts, runs
from training.batches import fitting
from training.config import PretrainSettings
from training.engine import first_alone
from training.loop import Epoch, Fitted, Plan, fit
from training.pack import Pack
from training.pretexts import Counting, Pretext
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
    _check(pack, rows, pretext, settings)
    wanted = RunInfo(
        kind="pretrain",
        settings=settings,
        store_version=pack.store_version,
        training_frames=len(rows["train"]),
    )
    info = first_alone(fabric, lambda: runs.begin(run, wanted))
    if info.finished_at is not None:
        return info
    training, validation = (
        pretexts.batches(
            pretext,
            pack,
            rows[split],
            # an evaluation takes parts of any size
            batch_size=fitting(
                settings.batch_size,
                len(rows[split]),
                world=fabric.world_size if split == "train" else 1,
            ),
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
    return first_alone(fabric, lambda: _finish(run, info, pretext, fitted))


def _check(
    pack: Pack, rows: Mapping[str, NDArray[np.int64]], pretext: Pretext, settings: PretrainSettings
) -> None:
    if "tags" not in pretext.targets:
        return
    tags = pack.tags()
    train = tags[rows["train"]]
    name, out = settings.strategy.name, "or pretrain without tags (--recipe ce)"
    if not train.any():
        raise StoreError(
            f"none of {len(train)} training frames has a tag that the strategy {name!r} learns "
            f"from: see 'dicom-node labels coverage', map the study descriptions, {out}"
        )
    # where a frame without tags is left out, it is no other kind of frame
    kinds = train[train.any(axis=1)] if pretext.tags_alone else train
    if len(np.unique(kinds, axis=0)) == 1:
        raise StoreError(
            f"all {len(kinds)} training frames{' with tags' * pretext.tags_alone} bear the same "
            f"tags: there is nothing to tell apart; harvest other examinations too, {out}"
        )
    if pretext.tags_alone and not tags[rows["validation"]].any():
        raise StoreError(
            f"none of {len(rows['validation'])} validation frames has a tag, by which the strategy "
            f"{name!r} chooses its epoch: harvest tagged studies of more patients (10 or more are "
            f"safe), map the study descriptions, {out}"
        )


def _finish(run: Path, info: RunInfo, pretext: Pretext, fitted: Fitted) -> RunInfo:
    for name, player in pretext.players.items():
        player.network.load_state_dict(fitted.best[name])
    kept = list(pretext.players)[-1]
    runs.save(run / runs.NETWORK, fitted.best[kept])
    runs.save(run / runs.ENCODER, pretext.encoder.state_dict())
    chosen = fitted.chosen
    info = info.finished(
        metrics={f"validation_{n}": v for n, v in chosen.validation.items() if np.isfinite(v)},
        counts=dict(pretext.counts) if isinstance(pretext, Counting) else {},
        best_epoch=chosen.number,
        seconds=round(sum(epoch.seconds for epoch in fitted.epochs), 1),
    )
    runs.write(run, info)
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return info

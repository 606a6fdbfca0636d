"""One fold is tested; of the others a part of the clips chooses the epoch and the rest teaches."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training.folds.frames import FoldedFrames
from training.pack.rows import NONE, SPLITS, Pack

_TRAIN, _VALIDATION, _TEST = (np.int8(SPLITS.index(n)) for n in ("train", "validation", "test"))


def split(
    frames: FoldedFrames, fold: int, *, validation: float, seed: int, most_frames: int | None
) -> Pack:
    """Return the frames with a split each.

    Parameters
    ----------
    frames : FoldedFrames
        Of all folds.
    fold : int
        Is tested, all frames of it; nothing else sees it.
    validation : float
        Part of the clips of the other folds, of each class, one at least.
    seed : int
        Draws them.
    most_frames : int, optional
        That are taken of a clip that is not tested, spread evenly over it.

    Returns
    -------
    Pack
        Of a version of its own; frames that are left out belong to no split.

    Raises
    ------
    StoreError
        When a class has too few clips to be on both sides.
    """
    known = frames.pack.rows
    is_tested = frames.folds == fold
    splits = np.where(is_tested, _TEST, _TRAIN).astype(np.int8)
    splits[np.isin(known.patient, _validating(frames, ~is_tested, validation, (seed, fold)))] = (
        _VALIDATION
    )
    if most_frames is not None:
        splits[_superfluous(known.instance, ~is_tested, most_frames)] = NONE
    version = f"{frames.pack.store_version}-fold-{fold}-seed-{seed}"
    return replace(frames.pack, rows=replace(known, split=splits), store_version=version)


def _validating(
    frames: FoldedFrames, ours: NDArray[np.bool_], part: float, seed: tuple[int, int]
) -> NDArray[np.int32]:
    """Return the clips that validate."""
    known, rng = frames.pack.rows, np.random.default_rng(seed)
    chosen = []
    for index in np.unique(known.class_index):
        clips = np.unique(known.patient[ours & (known.class_index == index)])
        if len(clips) < 2:
            classes = next(iter(frames.pack.class_sets.values()))
            raise StoreError(
                f"{len(clips)} clip(s) of the class {classes[index]!r} outside fold {seed[1]}; it "
                "takes two, one to learn from and one to validate"
            )
        count = min(max(round(part * len(clips)), 1), len(clips) - 1)
        chosen.append(rng.permutation(clips)[:count])
    return np.concatenate(chosen)


def _superfluous(clips: NDArray[np.int32], ours: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Return the rows that are too many of their clip."""
    found = []
    for clip in np.unique(clips[ours]):
        rows = np.flatnonzero(clips == clip)
        spread = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)
        found.append(np.delete(rows, spread))
    return np.concatenate(found)

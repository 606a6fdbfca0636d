"""Which frames of a pack teach a task, and whether they can."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.records import Task
from training.config import FinetuneSettings
from training.pack import Pack

Rows = NDArray[np.int64]
_WHAT = {Task.SEGMENTATION: "mask", Task.QUALITY: "quality score", Task.CLASSIFICATION: "class"}


def names(pack: Pack, settings: FinetuneSettings) -> tuple[str, ...]:
    """Return the names of a task's labels or classes in the order of their values.

    Raises
    ------
    StoreError
        When no frame has a label of the wanted set; says which sets there are.
    """
    if settings.labels is None:
        return ()
    sets = _sets(pack, settings.task)
    if settings.labels not in sets:
        raise StoreError(
            f"no frame has a {_WHAT[settings.task]} of {settings.labels!r}; "
            + _offer(pack, settings.task)
        )
    return sets[settings.labels]


def only_set(pack: Pack, task: Task) -> str | None:
    """Return the only label set or class set of a pack, None for the quality, which has none.

    Raises
    ------
    StoreError
        When there is none, or one must be chosen.
    """
    if task is Task.QUALITY:
        return None
    sets = list(_sets(pack, task))
    if len(sets) != 1:
        raise StoreError(f"{task}: {_offer(pack, task)}")
    return sets[0]


def splits(pack: Pack, settings: FinetuneSettings) -> dict[str, Rows]:
    """Return the labelled rows of each split; of ``train``, the share that is wanted.

    Raises
    ------
    StoreError
        When nobody is left to train or validate on, or the labels say the same everywhere.
    """
    found = pack.splits(labelled=settings.task, labels=settings.labels)
    _CHECKS[settings.task](pack, found["train"], names(pack, settings))
    found["train"] = pack.share(found["train"], settings.share, settings.seed, task=settings.task)
    if len(found["train"]) < 2:
        raise StoreError(
            f"--share {settings.share:g} leaves one training frame, and batch statistics need two; "
            "take a larger share, or label more frames"
        )
    return found


def _sets(pack: Pack, task: Task) -> Mapping[str, tuple[str, ...]]:
    return pack.class_sets if task is Task.CLASSIFICATION else pack.label_sets


def _offer(pack: Pack, task: Task) -> str:
    """Say what the pack has instead."""
    counts = [
        f"{name} ({len(pack.select(labelled=task, labels=name))} frames)"
        for name in _sets(pack, task)
    ]
    if counts:
        return f"there are {', '.join(counts)}: name one with --labels"
    return f"the store holds {len(pack)} frames, none with a {_WHAT[task]}; import labels first"


def _check_scores(pack: Pack, rows: Rows, _: tuple[str, ...]) -> None:
    scores = np.unique(pack.rows.quality[rows])
    if len(scores) == 1:
        raise StoreError(
            f"all {len(rows)} training frames have the quality score {scores[0]}; "
            "label frames of other scores too"
        )


def _check_classes(pack: Pack, rows: Rows, classes: tuple[str, ...]) -> None:
    found = np.unique(pack.rows.class_index[rows])
    if len(found) == 1:
        raise StoreError(
            f"all {len(rows)} training frames are of the class {classes[found[0]]!r}; "
            f"label frames of {' or '.join(c for c in classes if c != classes[found[0]])} too"
        )


def _check_masks(pack: Pack, rows: Rows, labels: tuple[str, ...]) -> None:
    missing = set(range(1, 1 + len(labels)))
    for row in rows:
        if pack.masks is not None:
            missing -= set(np.unique(pack.masks[row]).tolist())
        if not missing:
            return
    shown = " and ".join(f"{labels[value - 1]} ({value})" for value in sorted(missing))
    raise StoreError(f"no mask of a training patient shows {shown}; label frames that do")


_CHECKS = {
    Task.SEGMENTATION: _check_masks,
    Task.QUALITY: _check_scores,
    Task.CLASSIFICATION: _check_classes,
}

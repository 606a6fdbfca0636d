"""What a pack knows of its frames, and which of them a task takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.records import GROUPS, Geometry, Task
from training.config import Size

if TYPE_CHECKING:
    from training.pack.sharded import Pictures

SPLITS: Final = ("train", "validation", "test")
GEOMETRIES: Final = tuple(Geometry)
#: Geometries that are tags of their own; all others count as not known.
TAGGED_GEOMETRIES: Final = (Geometry.LINEAR, Geometry.CURVILINEAR)
#: Names of the columns of `Pack.tags`.
TAGS: Final = (*(geometry.value for geometry in TAGGED_GEOMETRIES), *GROUPS)
#: Of an index that a frame does not have.
NONE: Final = -1

_LABEL = {Task.SEGMENTATION: "mask", Task.QUALITY: "quality score", Task.CLASSIFICATION: "class"}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One array of length N a column; the order is that of the store."""

    #: hexadecimal, 64 characters
    frame_id: NDArray[np.str_]
    #: int32, equal for what is of one patient, study, or instance (a clip), from 0
    patient: NDArray[np.int32]
    study: NDArray[np.int32]
    instance: NDArray[np.int32]
    #: int32, from 1
    frame_number: NDArray[np.int32]
    #: int8, place in `SPLITS`
    split: NDArray[np.int8]
    #: uint8, bit i stands for GROUPS[i]
    groups: NDArray[np.uint8]
    #: int8, place in `GEOMETRIES`
    geometry: NDArray[np.int8]
    #: int8, 0 to 4, or -1
    quality: NDArray[np.int8]
    has_mask: NDArray[np.bool_]
    #: int16, places in the names of `Pack.label_sets` and `Pack.class_sets`, or -1
    label_set: NDArray[np.int16]
    class_set: NDArray[np.int16]
    #: int16, place in the classes of the set, or -1
    class_index: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.frame_id)


#: Packs that are open in this process, by token.
LIVE: WeakValueDictionary[str, "Pack"] = WeakValueDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """An open pack; its arrays are mapped, not read.

    One that was opened from an export has `Pictures` for arrays: they are read by rows, too.
    """

    folder: Path
    store_version: str
    size: Size
    rows: Rows
    #: uint8, (N, H, W)
    frames: "NDArray[np.uint8] | Pictures"
    #: uint8, (N, H, W), 0 = background or no mask; None when no frame has one
    masks: "NDArray[np.uint8] | Pictures | None"
    #: names of a mask's values 1, 2 and so on, by the set's name; those that occur
    label_sets: Mapping[str, tuple[str, ...]]
    #: names of the classes 0, 1 and so on, by the set's name; those that occur
    class_sets: Mapping[str, tuple[str, ...]]
    #: beginnings of the ids of frames that could not be read
    left_out: tuple[str, ...] = ()
    #: which of the packs that are open, for processes that share it
    token: str = field(init=False, repr=False, default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        LIVE[self.token] = self

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # another process maps the files, too: pixels are not copied to it
        return import_module("training.pack.reading").reopened, (self.folder, self.token)

    def __getitems__(self, places: Sequence[int]) -> Sequence[Mapping[str, NDArray[Any]]]:
        """Return the samples of a batch, as torch's ``DataLoader`` asks for them."""
        found: Sequence[Mapping[str, NDArray[Any]]]
        found = import_module("training.pack.loading").samples(self, places)
        return found

    def __getitem__(
        self, places: NDArray[np.int64] | Sequence[int] | int
    ) -> dict[str, NDArray[Any]]:
        """Return frames and what is known of them, copied, in any order.

        A data set for torch's ``DataLoader`` (`docs/research.md`).

        Parameters
        ----------
        places : ndarray of int64, sequence of int, or int
            Rows, B of them; of one alone the arrays lack the first axis.

        Returns
        -------
        dict of str to ndarray
            ``frames`` uint8 (B, H, W), ``tags`` float32 (B, 10), ``quality`` int8 (B,), and where
            a frame of the pack has one ``masks`` uint8 (B, H, W).
        """
        rows = np.asarray(places, np.int64)
        found: dict[str, NDArray[Any]] = {
            "frames": self.frames.take(rows, axis=0),
            "tags": self._tags[rows],
            "quality": self.rows.quality[rows],
        }
        if self.masks is not None:
            found["masks"] = self.masks.take(rows, axis=0)
        return found

    @cached_property
    def _tags(self) -> NDArray[np.float32]:
        return self.tags()

    def tags(self) -> NDArray[np.float32]:
        """Return the weak labels of all frames; a missing one is 0.

        Returns
        -------
        ndarray of float32, shape (N, 10)
            0 or 1 in the order of `TAGS`. Without groups and with another geometry than those of
            the tags all ten are 0.
        """
        places = [GEOMETRIES.index(geometry) for geometry in TAGGED_GEOMETRIES]
        geometry = self.rows.geometry[:, None] == np.array(places)  # (N, 2)
        groups = np.unpackbits(self.rows.groups[:, None], axis=1, bitorder="little")  # (N, 8)
        return np.concatenate((geometry, groups), axis=1).astype(np.float32)

    def tagged(self, rows: NDArray[np.int64] | None = None) -> int:
        """Return how many frames (of `rows`) have at least one tag."""
        tags = self.tags()
        return int((tags if rows is None else tags[rows]).any(axis=1).sum())

    def select(
        self, *, split: str | None = None, labelled: Task | None = None, labels: str | None = None
    ) -> NDArray[np.int64]:
        """Return the rows that fit, ascending.

        Parameters
        ----------
        split : str, optional
            ``train``, ``validation`` or ``test``.
        labelled : Task, optional
            Only those with a reader's label for this task.
        labels : str, optional
            Of a segmentation or a classification: only those of this set.

        Raises
        ------
        StoreError
            When no frame has a label of this set; says which sets there are.
        """
        fits = np.ones(len(self), np.bool_)
        if split is not None:
            fits &= self.rows.split == SPLITS.index(split)
        if labelled is not None:
            fits &= self._labelled(labelled, labels)
        return np.flatnonzero(fits)

    def _labelled(self, task: Task, labels: str | None) -> NDArray[np.bool_]:
        if task is Task.QUALITY:
            return np.not_equal(self.rows.quality, NONE)
        of_masks = task is Task.SEGMENTATION
        sets, column, present = (
            (self.label_sets, self.rows.label_set, self.rows.has_mask)
            if of_masks
            else (self.class_sets, self.rows.class_set, self.rows.class_index != NONE)
        )
        if labels is None:
            return present
        if labels not in sets:
            raise StoreError(
                f"no frame has a {_LABEL[task]} of {labels!r}; "
                + (f"there are labels of {', '.join(sets)}" if sets else "import labels first")
            )
        fits: NDArray[np.bool_] = present & (column == list(sets).index(labels))
        return fits

    def splits(
        self, *, labelled: Task | None = None, labels: str | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Return the rows of each split, of which ``test`` alone may be empty.

        Parameters
        ----------
        labelled, labels
            As in `select`.

        Raises
        ------
        StoreError
            When nobody is left to train or to validate on; says what to do.
        """
        found = {s: self.select(split=s, labelled=labelled, labels=labels) for s in SPLITS}
        label = "" if labelled is None else f" with a {_LABEL[labelled]}"
        do = "harvest studies of" if labelled is None else "label frames of"
        patients = len(np.unique(self.rows.patient[np.concatenate(list(found.values()))]))
        if not patients:
            raise StoreError(
                f"the store holds {len(self)} frames, none{label}; import labels first"
            )
        for split in ("train", "validation"):
            if not len(found[split]):
                raise StoreError(
                    f"{patients} patient(s) have frames{label} and none of them falls into "
                    f"the split {split!r}; {do} more patients (10 or more are safe)"
                )
        return found

    def share(
        self, rows: NDArray[np.int64], share: float, seed: int, *, task: Task | None = None
    ) -> NDArray[np.int64]:
        """Return the rows of a part of the patients; with one seed a smaller part lies in a larger.

        Parameters
        ----------
        rows : ndarray of int64
            Of which to take a part.
        share : float
            Of the patients, above 0, at most 1.
        seed : int
            Decides which.
        task : Task, optional
            Whose labels are the classes: of each there is at least one patient, more than `share`
            where it must be. Those of a classification when not given, none of a segmentation.

        Returns
        -------
        ndarray of int64
            Ascending, not empty unless `rows` is.
        """
        patients, place = np.unique(self.rows.patient[rows], return_inverse=True)
        order = np.random.default_rng(seed).permutation(len(patients))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        first = self._one_of_each(rank[place], rows, task)
        # stable: those of the classes come first, all others keep their order
        order = order[np.argsort(~np.isin(np.arange(len(order)), first), kind="stable")]
        count = max(round(share * len(patients)), len(first), 1)
        return rows[np.isin(place, order[:count])]

    def _one_of_each(
        self, rank: NDArray[np.int64], rows: NDArray[np.int64], task: Task | None
    ) -> list[int]:
        """Return the lowest rank of a patient of each class; `rank` is that of each row."""
        if task is Task.SEGMENTATION:
            return []
        classes = self.rows.quality[rows].astype(np.int32)
        if task is not Task.QUALITY:
            known, index = self.rows.class_set[rows], self.rows.class_index[rows]
            classes = np.where(index == NONE, NONE, np.int32(256) * known + index)
        return sorted({int(rank[classes == c].min()) for c in np.unique(classes[classes != NONE])})

"""Readers' labels into the store: quality, masks and classes, from a CSV of the researcher.

Columns ``sop_instance_uid, frame`` and at least one of ``quality, mask, class``: `frame` counts
from 1, `quality` is 0 to 4 or empty, `mask` is the path of a PNG, relative to the CSV, or empty,
`class` says what the frame is, as ``set/class``, or is empty. The PNG is grey or indexed, its
values are the labels (0 background), and it has the size of the source image; the store keeps the
part that it keeps of the frame.

Columns that may be there: `labels` names the label set of the mask, ``liver-kidney`` where it is
empty; `reader` is the name of who labelled it, of which the store keeps a pseudonym. The sets are
in ``dicom_node/store/data/label_sets.yaml``. The columns ``why`` and ``note`` are not read.

A column of another name and a quote that is not closed cost the whole file, a row of another length
than the header costs itself: read on, such rows would label wrongly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import ConfigError, PermanentError, StoreError
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.reader_notes import Fate, Noted, ReaderNotes
from dicom_node.harvest.reader_objects import name_of_person
from dicom_node.harvest.site_csv import misfit, site_lines
from dicom_node.store import (
    QUALITY,
    Observer,
    Origin,
    Provenance,
    Reading,
    WeakLabelStore,
)
from dicom_node.store.label_sets import DEFAULT_LABEL_SET, class_set, label_set

COLUMNS = ("sop_instance_uid", "frame")
#: A CSV has at least one of them.
LABEL_COLUMNS = ("quality", "mask", "class")
MORE_COLUMNS = ("labels", "reader")
#: So many rows are noted in one transaction.
NOTED_AT_ONCE = 200
#: Number of Frames (0028,0008) is an IS of 32 bits, and zeros may stand before it.
MOST_DIGITS = 12
#: Modes of a PNG whose values are numbers and no colours.
LABEL_MODES = frozenset({"1", "L", "P"})


@dataclass(frozen=True, kw_only=True)
class RowFault:
    """A row that could not be used."""

    #: line in the CSV, the header is 1
    row: int
    #: never quotes the row
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImportCount:
    """What became of a CSV."""

    imported: int
    faults: tuple[RowFault, ...]


def attach_labels(
    csv_path: Path,
    *,
    store: WeakLabelStore,
    key: PseudonymKey,
    notes: ReaderNotes | None = None,
) -> ImportCount:
    """Attach labels to frames that are in the store; a bad row costs itself only.

    Parameters
    ----------
    csv_path : Path
        Columns as above.
    store : WeakLabelStore
    key : PseudonymKey
    notes : ReaderNotes, optional
        Remember when it was imported, so that a SEG or SR that was made earlier and comes later
        does not take its place.

    Raises
    ------
    StoreError
        When the CSV cannot be read, lacks a column, or has one that is not known.
    TemporaryError
        When the disk does not take it.
    """
    imported, faults = 0, []
    text = _text(csv_path)
    # an open quote swallows rows: it is found before the first of them counts
    for _ in _rows(text, csv_path.name):
        pass
    labels = _Labels(csv_path.parent, store, key, notes)
    try:
        for line, row in _rows(text, csv_path.name):
            reason = row if isinstance(row, str) else labels.attach(row)
            imported += reason is None
            if reason is not None:
                faults.append(RowFault(row=line, reason=reason))
    finally:
        labels.note()
    return ImportCount(imported=imported, faults=tuple(faults))


def _text(csv_path: Path) -> str:
    try:
        return csv_path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(
            f"{csv_path.name}: cannot be read ({type(exc).__name__}); it is a CSV in UTF-8"
        ) from None


def _rows(text: str, name: str) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Yield each row with its line, or why it is none.

    Raises
    ------
    StoreError
        When the text is no CSV, or its columns are others.
    """
    try:
        header, lines = site_lines(
            text, name, columns=COLUMNS, more=(*LABEL_COLUMNS, *MORE_COLUMNS)
        )
        if not set(LABEL_COLUMNS) & set(header):
            raise StoreError(f"{name}: no label; add a column of {', '.join(LABEL_COLUMNS)}")
        for line, cells in lines:
            is_whole = len(cells) == len(header)
            yield line, dict(zip(header, cells, strict=True)) if is_whole else misfit(cells, header)
    except ConfigError as exc:
        raise StoreError(str(exc)) from None


class _Labels:
    """The labels of a CSV, on their way into a store."""

    def __init__(
        self, folder: Path, store: WeakLabelStore, key: PseudonymKey, notes: ReaderNotes | None
    ) -> None:
        self._folder, self._store, self._key, self._notes = folder, store, key, notes
        #: rows that are in the store and not in the notes, each with its image
        self._new: list[tuple[Noted, str]] = []

    def attach(self, row: dict[str, str]) -> str | None:
        """Attach the labels of one row and return why not."""
        uid, frame, quality, mask, class_name, labels, reader = (
            row.get(name, "").strip() for name in COLUMNS + LABEL_COLUMNS + MORE_COLUMNS
        )
        if not (quality or mask or class_name):
            return "no quality, no mask and no class"
        instance = self._key.token("instance", uid)
        try:
            said = _Row(
                frame=_whole(frame, "frame"),
                quality=_whole(quality, "quality") if quality else None,
                mask=_cropped(self._folder, mask, instance, self._store) if mask else None,
                labels=labels or None,
                class_name=class_name or None,
            )
            self._put(instance, uid, name_of_person(reader), list(said.readings()))
        except PermanentError as exc:
            return str(exc)
        return None

    def note(self) -> None:
        """Write the notes on what is in the store."""
        if self._notes is not None and self._new:
            self._notes.record_rows(self._new)
        self._new = []

    def _put(self, instance: str, uid: str, reader: str, said: list[Reading]) -> None:
        """Put readings beside those of SEG and SR; a later row on the same frame replaces it."""
        who, now = self._key.token("reader", reader or "unnamed CSV"), datetime.now(UTC)
        name = f"CSV {who} {uid} {said[0].frame_number}"
        provenance = Provenance(
            reader=who,
            object=self._key.token("object", name),
            origin=Origin.CSV,
            observer=Observer.NAMED if reader else Observer.UNNAMED,
        )
        newest = [noted.object for noted, image in self._new if image == uid]
        older = [] if self._notes is None else self._notes.order(uid)
        earlier = dict.fromkeys(one for one in older if one not in newest) | dict.fromkeys(newest)
        order = [one for one in earlier if one != provenance.object]
        self._store.readers.put(instance, provenance, said, order=order, adds=True)
        noted = Noted(
            name=name,
            study_instance_uid="",
            origin=Origin.CSV.value,
            study=self._store.readers.study_of(instance) or "",
            object=provenance.object,
            said_at=now,
            received_at=now,
            fate=Fate.USED,
            readings=len(said),
            reasons={},
        )
        self._new.append((noted, uid))
        if len(self._new) >= NOTED_AT_ONCE:
            self.note()


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The labels of one frame."""

    frame: int
    quality: int | None
    mask: NDArray[np.uint8] | None
    labels: str | None
    class_name: str | None

    def readings(self) -> Iterator[Reading]:
        """Yield what the row says.

        Raises
        ------
        StoreError
            When there is no such set or class, or a set without a mask.
        """
        if self.quality is not None:
            yield Reading(frame_number=self.frame, about=QUALITY, value=self.quality)
        if self.mask is not None:
            about = self.labels or DEFAULT_LABEL_SET
            every = range(1, 1 + len(label_set(about).names))
            yield Reading(
                frame_number=self.frame, about=about, mask=self.mask, labels=frozenset(every)
            )
        elif self.labels is not None:
            raise StoreError("a label set is of a mask, and there is none; name the mask too")
        if self.class_name is not None:
            about, _, name = self.class_name.partition("/")
            names = class_set(about).names
            if name not in names:
                raise StoreError(f"no class of this name in {about}; it has {', '.join(names)}")
            yield Reading(frame_number=self.frame, about=about, value=names.index(name))


def _whole(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise StoreError(f"{name} is not a whole number")
    if len(value) > MOST_DIGITS:
        raise StoreError(f"{name} has {len(value)} digits; write at most {MOST_DIGITS}")
    return int(value)


def _cropped(folder: Path, name: str, instance: str, store: WeakLabelStore) -> NDArray[np.uint8]:
    """Return the part of a mask in source geometry that the store keeps of the frame."""
    crop, size = store.crop_of(instance), store.source_size(instance)
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise StoreError("the mask lies outside the CSV's folder; put it beside the CSV")
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode not in LABEL_MODES or (image.height, image.width) != size:
                raise StoreError(
                    f"the mask is {image.mode}, {image.height} x {image.width}; "
                    f"expected grey or indexed, {size[0]} x {size[1]}"
                )
            return np.array(image, np.uint8)[crop.slices]
    except (
        OSError,
        RuntimeError,  # a link to itself
        SyntaxError,
        ValueError,  # no name of a file
        Image.DecompressionBombError,
    ) as exc:
        raise StoreError(f"the mask cannot be read ({type(exc).__name__})") from None

"""Readers' labels into the store: quality, masks and classes, from a CSV of the researcher.

Columns ``sop_instance_uid, frame, quality, mask``: `frame` counts from 1, `quality` is 0 to 4 or
empty, `mask` is the path of a PNG, relative to the CSV, or empty. The PNG is grey or indexed, its
values are the labels (0 background), and it has the size of the source image; the store keeps the
part that it keeps of the frame.

Columns that may be there: `labels` names the label set of the mask, ``liver-kidney`` where it is
empty; `class` says what the frame is, as ``set/class``. The sets are those of
``dicom_node/store/data/label_sets.yaml``.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.errors import PermanentError, StoreError
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.store import WeakLabelStore

COLUMNS = ("sop_instance_uid", "frame", "quality", "mask")
MORE_COLUMNS = ("labels", "class")
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


def attach_labels(csv_path: Path, *, store: WeakLabelStore, key: PseudonymKey) -> ImportCount:
    """Attach labels to frames that are in the store; a bad row costs itself only.

    Raises
    ------
    StoreError
        When the CSV cannot be read or lacks a column.
    TemporaryError
        When the disk does not take it.
    """
    imported, faults = 0, []
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise StoreError(f"{csv_path.name}: no column {missing[0]!r}; add it")
            for row in reader:
                reason = _attach(row, csv_path.parent, store, key)
                imported += reason is None
                if reason is not None:
                    faults.append(RowFault(row=reader.line_num, reason=reason))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise StoreError(
            f"{csv_path.name}: cannot be read ({type(exc).__name__}); it is a CSV in UTF-8"
        ) from None
    return ImportCount(imported=imported, faults=tuple(faults))


def _attach(
    row: dict[str, str], folder: Path, store: WeakLabelStore, key: PseudonymKey
) -> str | None:
    """Attach the labels of one row and return why not."""
    uid, frame, quality, mask, labels, class_name = (
        (row.get(name) or "").strip() for name in COLUMNS + MORE_COLUMNS
    )
    if not (quality or mask or class_name):
        return "no quality, no mask and no class"
    instance = key.token("instance", uid)
    try:
        store.add_label(
            instance,
            _whole(frame, "frame"),
            quality=_whole(quality, "quality") if quality else None,
            mask=_cropped(folder, mask, instance, store) if mask else None,
            labels=labels or None,
            class_name=class_name or None,
        )
    except PermanentError as exc:
        return str(exc)
    return None


def _whole(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise StoreError(f"{name} is not a whole number")
    return int(value)


def _cropped(folder: Path, name: str, instance: str, store: WeakLabelStore) -> NDArray[np.uint8]:
    """Return the part of a mask in source geometry that the store keeps of the frame."""
    crop, size = store.crop_of(instance), store.source_size(instance)
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise StoreError("the mask lies outside the CSV's folder; put it beside the CSV")
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.mode not in LABEL_MODES or (image.height, image.width) != size:
                raise StoreError(
                    f"the mask is {image.mode}, {image.height} x {image.width}; "
                    f"expected grey or indexed, {size[0]} x {size[1]}"
                )
            return np.array(image, np.uint8)[crop.slices]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoreError(f"the mask cannot be read ({type(exc).__name__})") from None

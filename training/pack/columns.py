"""What is known of the frames of a store, as the columns of a pack."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.records import GROUPS
from dicom_node.store import StoredFrame
from dicom_node.store.label_sets import class_sets, label_sets
from training.config import Size
from training.pack.reading import FORMAT
from training.pack.rows import GEOMETRIES, NONE, SPLITS

_LABEL_SETS: Final = "label_sets"
_CLASS_SETS: Final = "class_sets"


def about(
    version: str, size: Size, frames: Sequence[StoredFrame], left_out: Sequence[str]
) -> dict[str, Any]:
    """Return what pack.json says."""
    return {
        "format": FORMAT,
        "store_version": version,
        "size": size.model_dump(),
        "frames": len(frames),
        "masks": sum(frame.has_mask for frame in frames),
        "splits": list(SPLITS),
        "geometries": [geometry.value for geometry in GEOMETRIES],
        "groups": list(GROUPS),
        _LABEL_SETS: _label_names(frames),
        _CLASS_SETS: _class_names(frames),
        "left_out": list(left_out),
    }


def columns(frames: Sequence[StoredFrame]) -> Mapping[str, NDArray[Any]]:
    """Return the columns of `training.pack.rows.Rows` by name."""
    labels, classes = list(_label_names(frames)), _class_names(frames)

    def each(value: Callable[[StoredFrame], Any], dtype: Any) -> NDArray[Any]:
        return np.array([value(frame) for frame in frames], dtype)

    return {
        "frame_id": each(lambda frame: frame.frame_id, "U64"),
        "patient": _numbered([frame.patient for frame in frames]),
        "study": _numbered([frame.study for frame in frames]),
        "instance": _numbered([frame.instance for frame in frames]),
        "frame_number": each(lambda frame: frame.frame_number, np.int32),
        "split": each(lambda frame: SPLITS.index(frame.split), np.int8),
        "groups": each(lambda frame: sum(1 << GROUPS.index(g) for g in frame.groups), np.uint8),
        "geometry": each(lambda frame: GEOMETRIES.index(frame.geometry), np.int8),
        "quality": each(lambda frame: _or_none(frame.quality), np.int8),
        "has_mask": each(lambda frame: frame.has_mask, np.bool_),
        "label_set": each(lambda frame: _place(labels, frame.label_set), np.int16),
        "class_set": each(lambda frame: _place(list(classes), frame.class_set), np.int16),
        "class_index": each(
            lambda frame: _place(classes.get(frame.class_set or "", []), frame.class_name),
            np.int16,
        ),
    }


def _label_names(frames: Sequence[StoredFrame]) -> dict[str, list[str]]:
    found = {frame.label_set for frame in frames}
    return {name: list(one.names) for name, one in label_sets().items() if name in found}


def _class_names(frames: Sequence[StoredFrame]) -> dict[str, list[str]]:
    found = {frame.class_set for frame in frames}
    return {name: list(one.names) for name, one in class_sets().items() if name in found}


def _numbered(names: Sequence[str]) -> NDArray[np.int32]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int32)


def _or_none(value: int | None) -> int:
    return NONE if value is None else value


def _place(names: Sequence[str], name: str | None) -> int:
    return NONE if name is None else names.index(name)

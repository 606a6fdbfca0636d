"""What a sample of an export is made of, byte for byte: who writes one and who audits one ask here.

A shard is a tar of the oldest kind (POSIX.1-1988, ustar) of files of nobody and of no time.
"""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.records import GROUPS, Geometry
from dicom_node.store.split import SPLITS

#: Of an index that a frame does not have.
NONE = -1
_GEOMETRIES = tuple(Geometry)
_SPLITS = tuple(SPLITS)


def member(name: str, size_bytes: int) -> tarfile.TarInfo:
    """Return what a shard says of a file."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = size_bytes, 0o600
    return about


def as_array(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels as an ``.npy`` file."""
    content = io.BytesIO()
    np.save(content, pixels, allow_pickle=False)
    return content.getvalue()


def as_json(content: object) -> bytes:
    """Return what an export says in words."""
    return f"{json.dumps(content, indent=1)}\n".encode()


def words(
    rows: Mapping[str, NDArray[Any]],
    row: int,
    label_sets: Sequence[str],
    class_sets: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return what is known of a frame, in words: numbers of patients are those of the pack.

    Parameters
    ----------
    rows : mapping of str to ndarray
        Columns of the pack.
    row : int
    label_sets, class_sets
        Names of the pack's sets, and of the classes in them.
    """

    def number(column: str) -> int:
        return int(rows[column][row])

    class_set = number("class_set")
    classes = list(class_sets)[class_set] if class_set != NONE else None
    quality, label_set = number("quality"), number("label_set")
    return {
        "patient": number("patient"),
        "study": number("study"),
        "clip": number("instance"),
        "frame_number": number("frame_number"),
        "split": _SPLITS[number("split")],
        "geometry": _GEOMETRIES[number("geometry")].value,
        "groups": [name for bit, name in enumerate(GROUPS) if number("groups") >> bit & 1],
        "quality": None if quality == NONE else quality,
        "label_set": None if label_set == NONE else label_sets[label_set],
        "class_set": classes,
        "class": class_sets[classes][number("class_index")] if classes else None,
    }

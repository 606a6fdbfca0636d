"""Open a pack: NumPy is enough."""

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training.config import Size
from training.pack.rows import Pack, Rows

#: Of pack.json; another one is built anew.
FORMAT: Final = 1
#: What damaged files raise; pydantic's ValidationError is a ValueError.
FAULTS = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile)
_WAY_OUT = "delete the folder and let the pack be built again from the store"


def open(folder: Path) -> Pack:
    """Open a pack, or an export of one that `training.pack.exported` knows.

    Raises
    ------
    StoreError
        When there is none, it is damaged, or of a format that this program does not know.
    """
    if (folder / "export.json").is_file():
        # what speaks to a bucket is needed for these alone
        exported: Pack = import_module("training.pack.exported").reopened(folder)
        return exported
    about = _about(folder)
    try:
        return _pack(folder, about)
    except FAULTS as exc:
        raise StoreError(
            f"{folder}: the pack is damaged ({type(exc).__name__}); {_WAY_OUT}"
        ) from None


def reopened(folder: Path, token: str) -> Pack:
    """Open the pack of another process by its token, so that both know it by the same."""
    pack = open(folder)
    object.__setattr__(pack, "token", token)
    return pack


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "pack.json").read_text("utf-8"))
        found = about["format"]
    except OSError as exc:
        raise StoreError(
            f"{folder}: no pack here ({exc.strerror}); name a pack's folder, or the store"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{folder}: pack.json is damaged; {_WAY_OUT}") from None
    if found != FORMAT:
        raise StoreError(f"{folder}: a pack of format {found}, known is {FORMAT}; {_WAY_OUT}")
    return dict(about)


def _pack(folder: Path, about: dict[str, Any]) -> Pack:
    with (folder / "rows.npz").open("rb") as file:
        rows = rows_of(file, about["frames"])
    size = Size.model_validate(about["size"])
    shape = (about["frames"], size.height, size.width)
    return Pack(
        folder=folder,
        rows=rows,
        frames=_mapped(folder / "frames.npy", shape),
        masks=_mapped(folder / "masks.npy", shape) if about["masks"] else None,
        **known_of(about),
    )


def rows_of(file: BinaryIO, count: int) -> Rows:
    """Return the columns of rows.npz, `count` long."""
    # NumPy would leave a damaged file open: who calls closes it
    with np.load(file, allow_pickle=False) as columns:
        rows = Rows(**{field.name: columns[field.name] for field in fields(Rows)})
    if {len(getattr(rows, field.name)) for field in fields(Rows)} != {count}:
        raise ValueError("columns of different lengths")
    return rows


def known_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pack.json says, as `Pack` takes it by name."""
    return {
        "store_version": about["store_version"],
        "size": Size.model_validate(about["size"]),
        "label_sets": {name: tuple(names) for name, names in about["label_sets"].items()},
        "class_sets": {name: tuple(names) for name, names in about["class_sets"].items()},
        "left_out": tuple(about["left_out"]),
    }


def _mapped(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError("another shape than pack.json says")
    return array

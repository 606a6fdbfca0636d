"""The masks of stills, kept until the stills of their series go out as one SEG."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from dicom_node.errors import ResultError
from dicom_node.records import Algorithm, Segment, Segmentation
from dicom_node.results.disk import sync_folder

#: Folder of the masks, in that of the results.
STILLS: Final = "stills"
#: What is raised on a file that is gone, cut or changed.
_DAMAGE: Final = (EOFError, KeyError, NotImplementedError, OSError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """A `Segmentation` without its label maps."""

    algorithm: Algorithm
    segments: tuple[Segment, ...]
    frames: tuple[int, ...]


_AS_JSON: Final = TypeAdapter(_Said)


def mask_of(path: Path) -> Path:
    """Return where the mask lies that a SEG at `path` would be made of."""
    return path.parent / STILLS / f"{path.stem}.npz"


def write_mask(path: Path, segmentation: Segmentation) -> None:
    """Write label maps and what they mean, durably, whole or not at all.

    Parameters
    ----------
    path : Path
        Of `mask_of`.
    segmentation : Segmentation
        Nothing of the image's header is in it.
    """
    said = _Said(
        algorithm=segmentation.algorithm,
        segments=segmentation.segments,
        frames=segmentation.frames,
    )
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700)
        sync_folder(path.parent.parent)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            label_map=segmentation.label_map,
            said=np.frombuffer(_AS_JSON.dump_json(said), np.uint8),
        )
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def read_mask(path: Path) -> Segmentation:
    """Read what `write_mask` wrote.

    Raises
    ------
    ResultError
        When the file is not there, or is damaged: each part of it has a checksum.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            label_map, said = kept["label_map"], _AS_JSON.validate_json(kept["said"].tobytes())
    except _DAMAGE as exc:
        cause = type(exc).__name__
        raise ResultError(f"the mask of a still, {path.name}, is not read ({cause})") from None
    return Segmentation(
        algorithm=said.algorithm,
        segments=said.segments,
        frames=said.frames,
        label_map=label_map,
    )

"""Packs of a store that training made (`training.pack`), as far as erasing needs to know them."""

import shutil
import zlib
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from dicom_node.errors import TemporaryError

#: A folder with anything else in it is no pack, and is left alone.
PACK_FILES = frozenset({"pack.json", "rows.npz", "frames.npy", "masks.npy"})
#: Ends of the names of packs that are being built or replaced.
UNFINISHED = (".part", ".old")
#: What damaged files raise.
FAULTS = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error)


def delete_packs(folder: Path, frame_ids: Set[str]) -> int:
    """Delete the packs that hold one of these frames, and all that are unfinished or damaged.

    A pack is read from the store without a lock. What was begun before the frames left the store
    has its folder by now: a second look finds it under its last name if it was renamed during the
    first.

    Parameters
    ----------
    folder : Path
        Holds one folder a pack; may be missing.
    frame_ids : set of str
        That have left the store.

    Raises
    ------
    TemporaryError
        When a pack cannot be deleted.
    """
    deleted = 0
    for _ in range(2):
        for pack in list(_packs(folder)):
            if pack.name.endswith(UNFINISHED) or _holds(pack, frame_ids):
                delete_pack(pack)
                deleted += 1
    return deleted


def _packs(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            names = {entry.name for entry in path.iterdir()}
        except OSError:  # no folder, or gone by now
            continue
        if names <= PACK_FILES and (names or path.name.endswith(UNFINISHED)):
            yield path


def delete_pack(pack: Path) -> None:
    """Delete a pack; when it is half done, its name says so, and nobody opens it."""
    doomed = pack
    if not pack.name.endswith(UNFINISHED):
        doomed = pack.with_name(f"{pack.name}.old")
        shutil.rmtree(doomed, ignore_errors=True)
        with suppress(OSError):
            pack.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    if pack.exists() or doomed.exists():
        raise TemporaryError(f"{pack}: cannot be deleted; run the command again")


def _holds(pack: Path, frame_ids: Set[str]) -> bool:
    """Whether a pack holds one of the frames; one that cannot be read might."""
    try:
        with np.load(pack / "rows.npz", allow_pickle=False) as rows:
            return not frame_ids.isdisjoint(rows["frame_id"].tolist())
    except FAULTS:
        return True

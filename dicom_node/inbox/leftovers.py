"""What a writer left when it died: it holds a lock on its file as long as it lives."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from dicom_node import log
from dicom_node.inbox.disk import Disk


def create_locked(disk: Disk, path: Path) -> BinaryIO:
    """Create a file and lock it; a sweep takes one without a lock for a dead writer's."""
    while True:
        file = disk.create(path)
        fcntl.flock(file, fcntl.LOCK_EX)  # a sweep holds it only until it has removed the file
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def sweep(folder: Path) -> list[str]:
    """Remove what dead writers left in a folder; safe while others write.

    What cannot be removed stays, and stops nobody: it was never acknowledged.

    Returns
    -------
    list of str
        Ids of the files that were removed.
    """
    return [path.stem for path in folder.iterdir() if _remove_if_unlocked(path)]


def _remove_if_unlocked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # locked: a writer that was not faster sees that its file is gone, and makes another
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as exc:
        log.get("inbox").error("leftover stays", file_id=path.stem, cause=type(exc).__name__)
        return False
    return True

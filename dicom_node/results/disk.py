"""What makes files and their names last."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Force the entries of a folder to the disk."""
    _sync(folder)


@contextmanager
def synced(path: Path) -> Iterator[None]:
    """Force what was written to a file to the disk, while something else is done.

    Raises
    ------
    OSError
        At the end, when the disk does not take it.
    """
    with ThreadPoolExecutor(1, "sync") as beside:
        on_disk = beside.submit(_sync, path)
        yield
        on_disk.result()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

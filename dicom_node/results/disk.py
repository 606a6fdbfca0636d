"""What makes a name in a folder last."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Force the entries of a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

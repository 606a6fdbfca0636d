"""One owner for the data folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dicom_node.errors import ConfigError


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Hold the data folder: two nodes on one folder would destroy each other's work."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _open_private(data / "node.lock").close()
    except OSError as exc:
        raise ConfigError(
            f"node.data: {data} cannot be written ({exc.strerror}); "
            "give this user the folder, or name another"
        ) from None
    with locked(data / "node.lock", wait_for_it=False):
        yield


def is_owned(data: Path) -> bool:
    """Whether a node runs on the data folder."""
    try:
        with (data / "node.lock").open("rb") as file:
            # shared, and let go at once: several may look
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def locked(path: Path, *, wait_for_it: bool) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when its owner dies."""
    with _open_private(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait_for_it else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ConfigError(
                f"node.data: {path.parent} is in use by another node; stop it or use another folder"
            ) from None
        yield


def _open_private(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")

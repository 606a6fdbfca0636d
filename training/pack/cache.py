"""Shards of a bucket on this machine's disk, no more than it may take, shared by its processes."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import TemporaryError

DEFAULT_GIB: Final = 20.0
GIB: Final = 2**30
#: What was not written to for so long was left by somebody who died.
_DEAD_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder for shards; deleting it loses nothing."""

    folder: Path
    limit_bytes: int

    def got(self, path: Path, size_bytes: int, fetch: Callable[[Path], None]) -> Path:
        """Return a file of the cache, fetched where it is not there; others wait for it.

        Parameters
        ----------
        path : Path
            In the folder.
        size_bytes : int
            That it takes; older files make room.
        fetch : callable
            Fills the file that it is given, which has its size already.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        try:
            return self._got(path, size_bytes, fetch)
        except OSError as exc:
            raise TemporaryError(
                f"{self.folder}: the cache cannot be written ({exc.strerror}); free space, or give "
                "another --cache or a smaller --cache-gib"
            ) from None

    def _got(self, path: Path, size_bytes: int, fetch: Callable[[Path], None]) -> Path:
        if _touched(path, size_bytes):
            return path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(path.with_suffix(".lock")):
            if _touched(path, size_bytes):
                return path
            part = path.with_suffix(".part")
            try:
                with _held(self.folder / "cache.lock"):
                    self._make_room(size_bytes)
                    part.touch()
                    # the room is taken before it is filled: others count it
                    os.truncate(part, size_bytes)
                fetch(part)
                with _held(self.folder / "cache.lock"):
                    # whoever counts what is taken meets it under one of its two names
                    part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def _make_room(self, size_bytes: int) -> None:
        """Delete what was not read for longest; who reads it now keeps his mapping."""
        found = []
        dead_ns = time.time_ns() - _DEAD_NS
        for path in (*self.folder.rglob("*.tar"), *self.folder.rglob("*.part")):
            try:
                known = path.stat()
            except FileNotFoundError:
                continue
            found.append((known.st_mtime_ns, known.st_size, path))
        taken = sum(size for _, size, _ in found)
        for written_ns, size, path in sorted(found):
            if taken + size_bytes <= self.limit_bytes:
                break
            if path.suffix == ".tar" or written_ns < dead_ns:
                path.unlink(missing_ok=True)
                taken -= size


def default_folder() -> Path:
    """Return where shards lie unless another folder is named."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "dicom-node" / "shards"


def _touched(path: Path, size_bytes: int) -> bool:
    """Whether a file is there and whole; it is the youngest now."""
    try:
        os.utime(path)
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

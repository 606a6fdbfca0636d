"""The file system, as the inbox uses it."""

import errno
import fcntl
import os
import struct
import threading
from pathlib import Path
from typing import BinaryIO, Final, cast

from dicom_node.errors import InboxFullError, TemporaryError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """The calls whose order makes a file durable; a test may record or break them."""

    def create(self, path: Path) -> BinaryIO:
        """Create a file that nobody else has, readable by its owner alone."""
        # no buffer: what is written is a whole PDU, and copying it costs as much as writing it
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        return cast(BinaryIO, os.fdopen(handle, "wb", buffering=0))

    def sync(self, file: BinaryIO) -> None:
        """Wait until the file's bytes are on the medium."""
        os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Move a file atomically within the file system."""
        source.rename(target)

    def sync_folder(self, folder: Path) -> None:
        """Wait until the folder's names are on the medium."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Meter:
    """A number of bytes in a file, shared by threads and processes.

    Parameters
    ----------
    path : Path
        The file, created when missing.
    """

    def __init__(self, path: Path) -> None:
        #: whether nothing was counted yet
        self.is_new = not path.exists()
        self._threads = threading.Lock()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def __del__(self) -> None:
        os.close(self._handle)

    def read(self) -> int:
        """Return the number."""
        stored = os.pread(self._handle, 8, 0)
        return int(struct.unpack("<q", stored)[0]) if len(stored) == 8 else 0

    def add(self, count: int) -> None:
        """Change the number; several threads and processes may do so at a time."""
        # threads of a process share the lock of the file
        with self._threads:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                os.pwrite(self._handle, struct.pack("<q", self.read() + count), 0)
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)


class disk_errors:  # noqa: N801 - read as a statement; a generator would cost more than a write
    """Turn what the operating system says of the disk into the node's errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if not isinstance(exc, OSError):
            return
        if exc.errno in _FULL:
            raise InboxFullError("the disk of the inbox is full: free disk space") from exc
        raise TemporaryError(f"the disk of the inbox failed: {exc.strerror}") from exc

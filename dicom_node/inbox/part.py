"""A file on its way into the inbox."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from dicom_node import log
from dicom_node.errors import TemporaryError
from dicom_node.inbox.disk import Disk, disk_errors
from dicom_node.inbox.leftovers import create_locked

#: a growing file asks again for room after so many bytes
_ROOM_STEP_BYTES: Final = 8 << 20


class Part:
    """A file on its way into the inbox: write it, then commit it; anything else leaves nothing.

    Parameters
    ----------
    path : Path
        Where it grows, in ``tmp/``; its stem is the file id.
    target : Path
        Where it lies once it is committed, in ``new/``.
    disk : Disk
    check_room : callable
        Raises when there is no room for so many bytes more.
    committed : callable
        Told the size in bytes of the durable file; an `OSError` of it changes nothing.
    """

    _file: BinaryIO | None = None

    def __init__(
        self,
        path: Path,
        target: Path,
        *,
        disk: Disk,
        check_room: Callable[[int], None],
        committed: Callable[[int], None],
    ) -> None:
        self.file_id = path.stem
        self.size_bytes = 0
        self._asked_bytes = 0
        self._path, self._target = path, target
        self._disk, self._check_room, self._committed = disk, check_room, committed
        with disk_errors():
            self._file = create_locked(disk, path)

    def __del__(self) -> None:
        self.discard()

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes.

        Raises
        ------
        InboxFullError
            When the disk or the quota is full.
        TemporaryError
            When the disk fails in another way, or the part was discarded.
        """
        if self.size_bytes - self._asked_bytes >= _ROOM_STEP_BYTES:
            self._check_room(self.size_bytes)
            self._asked_bytes = self.size_bytes
        file, rest = self._open_file(), memoryview(data)
        with disk_errors():
            while rest:
                rest = rest[file.write(rest) :]  # a disk that fills up takes a part
        self.size_bytes += len(data)
        return len(data)

    def commit(self, renaming: Callable[[Callable[[], None]], None] | None = None) -> Path:
        """Make the file durable: when this returns it survives a power cut.

        Write, fsync the file, rename it into ``new/``, fsync the folder.

        Parameters
        ----------
        renaming : callable, optional
            Called with the rename, which it does.

        Raises
        ------
        InboxFullError, TemporaryError
            When the disk refuses; nothing of the file is left then.
        """
        disk, file = self._disk, self._open_file()
        rename = partial(disk.rename, self._path, self._target)
        try:
            with disk_errors():
                file.flush()
                disk.sync(file)
                rename() if renaming is None else renaming(rename)
                disk.sync_folder(self._target.parent)
        except TemporaryError:
            self._target.unlink(missing_ok=True)
            self.discard()
            raise
        self._file = None
        try:
            file.close()
            self._committed(self.size_bytes)
        except OSError as exc:  # the file is durable all the same; the next recount finds it
            log.get("inbox").error("not_counted", file_id=self.file_id, cause=type(exc).__name__)
        return self._target

    def discard(self) -> None:
        """Leave nothing; does nothing after `commit` or when repeated."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        with suppress(OSError, ValueError):  # what was buffered does not fit: it is not wanted
            file.close()

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise TemporaryError("the transfer was given up")
        return self._file

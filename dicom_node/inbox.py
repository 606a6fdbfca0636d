"""The spool: the single source of truth for what was received.

::

    tmp/                  being written; its writer holds a lock on it
    new/                  received and durable, not yet in the index
    kept/<2 hex digits>/  in the index
    quarantine/           not usable; <file id>.json beside it says why
    bytes                 how much the three hold, shared by the processes

A file is named by the node's own id, never by a UID. It holds a PS3.10 file: preamble, File Meta
Information, then the data set exactly as it was sent.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from dicom_node.errors import InboxFullError, PermanentError, TemporaryError

_FILE_ID: Final = re.compile(r"[0-9a-f]{24}")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: a growing file asks again for room after so many bytes
_ROOM_STEP_BYTES: Final = 8 << 20
_REASON_LENGTH: Final = 200


class Disk:
    """The calls whose order makes a file durable; a test may record or break them."""

    def create(self, path: Path) -> BinaryIO:
        """Create a file that nobody else has, readable by its owner alone."""
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb", 1 << 18)

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


class Inbox:
    """The spool in a folder, for several threads and processes.

    Parameters
    ----------
    folder : Path
        Created, with its sub-folders, when missing; mode 0700.
    min_free_bytes : int
        Take nothing new when less is free on the disk.
    quota_bytes : int or None
        Take nothing new when the inbox holds more; None sets no limit.
    disk : Disk
        The file layer.
    """

    def __init__(
        self,
        folder: Path,
        *,
        min_free_bytes: int,
        quota_bytes: int | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self.disk = disk or Disk()
        self._min_free_bytes = min_free_bytes
        self._quota_bytes = quota_bytes
        self._tmp, self._new, self._kept, self._quarantine = (
            folder / name for name in ("tmp", "new", "kept", "quarantine")
        )
        for sub_folder in (self._tmp, self._new, self._kept, self._quarantine):
            sub_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.disk.sync_folder(folder)
        self._meter = _Meter(folder / "bytes")
        if self._meter.is_new:
            self.recount()

    @property
    def size_bytes(self) -> int:
        """What the inbox holds, as counted since the last `recount`."""
        return self._meter.read()

    def check_room(self, extra_bytes: int = 0) -> None:
        """Pass when there is room for something new.

        Parameters
        ----------
        extra_bytes : int
            Already written and not counted yet.

        Raises
        ------
        InboxFullError
            When the disk is below its low-water mark or the quota is reached.
        """
        with _disk_errors():
            free = shutil.disk_usage(self.folder).free
            held = self._meter.read()
        if free < self._min_free_bytes:
            raise InboxFullError(
                f"{free} bytes free, {self._min_free_bytes} wanted: free disk space "
                "or lower node.min_free_gib"
            )
        quota = self._quota_bytes
        if quota is not None and held + extra_bytes >= quota:
            raise InboxFullError(
                f"the inbox holds its quota of {quota} bytes: remove studies "
                "or raise node.inbox_quota_gib"
            )

    def create(self) -> "Part":
        """Begin a file.

        Raises
        ------
        InboxFullError
            When there is no room.
        TemporaryError
            When the disk fails in another way.
        """
        self.check_room()
        return Part(self, _new_file_id())

    def waiting(self, limit: int | None = None) -> list[str]:
        """Return the ids of files that no index row was confirmed for, oldest first."""
        return _ids(self._new)[:limit]

    def kept(self) -> Iterator[list[str]]:
        """Yield the ids of registered files, folder by folder."""
        for folder in sorted(self._kept.iterdir()):
            yield _ids(folder)

    def path(self, file_id: str) -> Path:
        """Return where a received file lies.

        Raises
        ------
        PermanentError
            When the inbox has no such file.
        """
        kept, new = self.kept_path(file_id), self._new / f"{file_id}.dcm"
        # kept again: another process may move it between the first look and the second
        for place in (kept, new, kept):
            if place.exists():
                return place
        raise PermanentError(f"the inbox holds no file {file_id}")

    def kept_path(self, file_id: str) -> Path:
        """Return where a file lies once it is registered."""
        if not _FILE_ID.fullmatch(file_id):
            raise PermanentError("not an inbox file id: 24 hexadecimal digits")
        # the last digits are random and fill the folders evenly
        return self._kept / file_id[-2:] / f"{file_id}.dcm"

    def keep(self, file_id: str) -> Path:
        """Move a registered file out of the waiting line; repeating it does no harm.

        The file is durable before and after: it lies under one of the two names that `path` tries.
        """
        target = self.kept_path(file_id)
        source = self.path(file_id)
        if source != target:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            self.disk.rename(source, target)
        return target

    def remove_duplicate(self, file_id: str) -> None:
        """Delete a file whose bytes the inbox keeps under another id."""
        path = self.path(file_id)
        size = path.stat().st_size
        path.unlink()
        self._meter.add(-size)

    def quarantine(self, file_id: str, reason: str) -> None:
        """Put a file aside.

        Parameters
        ----------
        reason : str
            For the engineer; never a patient's data.
        """
        source = self.path(file_id)
        note = self._quarantine / f"{file_id}.json"
        # the reason first: a crash between the two repeats the quarantine, no file lacks its why
        note.write_text(
            json.dumps({"file_id": file_id, "reason": reason[:_REASON_LENGTH]}), "utf-8"
        )
        self.disk.rename(source, self._quarantine / source.name)

    def quarantined(self) -> list[tuple[str, str]]:
        """Return (file id, reason) of the files put aside, oldest first."""
        found = []
        for file_id in _ids(self._quarantine):
            try:
                note = json.loads((self._quarantine / f"{file_id}.json").read_text("utf-8"))
                found.append((file_id, str(note["reason"])))
            except (OSError, ValueError, LookupError, TypeError):
                found.append((file_id, "the note of the reason was lost"))
        return found

    def sweep(self) -> int:
        """Remove what dead writers left in ``tmp/``; safe while others receive.

        Returns
        -------
        int
            How many files were removed.
        """
        return sum(_remove_if_unlocked(path) for path in self._tmp.iterdir())

    def recount(self) -> int:
        """Count the bytes anew, as a start-up does; a walk over every file.

        What arrives during the walk may count twice, never not at all.
        """
        before = self._meter.read()
        places = (self._new, self._quarantine, *self._kept.iterdir())
        total = sum(_size(path) for folder in places for path in folder.glob("*.dcm"))
        self._meter.add(total - before)
        return total


class Part:
    """A file on its way into the inbox: write it, then commit it; anything else leaves nothing.

    Parameters
    ----------
    inbox : Inbox
    file_id : str
        Of the file once it is committed.
    """

    _file: BinaryIO | None = None

    def __init__(self, inbox: Inbox, file_id: str) -> None:
        self.file_id = file_id
        self.size_bytes = 0
        self._inbox = inbox
        self._path = inbox.folder / "tmp" / f"{file_id}.dcm"
        self._asked_bytes = 0
        with _disk_errors():
            self._file = inbox.disk.create(self._path)
            # `sweep` takes a file without a lock for a dead writer's
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __del__(self) -> None:
        self.discard()

    @property
    def name(self) -> str:
        """Path of the unfinished file."""
        return str(self._path)

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
            self._inbox.check_room(self.size_bytes)
            self._asked_bytes = self.size_bytes
        with _disk_errors():
            written = self._open_file().write(data)
        self.size_bytes += written
        return written

    def flush(self) -> None:
        """Hand the bytes to the operating system."""
        with _disk_errors():
            self._open_file().flush()

    def commit(self) -> Path:
        """Make the file durable: when this returns it survives a power cut.

        Write, fsync the file, rename it into ``new/``, fsync the folder.

        Raises
        ------
        InboxFullError, TemporaryError
            When the disk refuses; nothing of the file is left then.
        """
        target = self._inbox.folder / "new" / self._path.name
        disk, file = self._inbox.disk, self._open_file()
        try:
            with _disk_errors():
                file.flush()
                disk.sync(file)
                disk.rename(self._path, target)
                disk.sync_folder(target.parent)
        except TemporaryError:
            target.unlink(missing_ok=True)
            self.discard()
            raise
        self._file = None
        file.close()
        self._inbox._meter.add(self.size_bytes)
        return target

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


def received_at(file_id: str) -> datetime:
    """Return when a file was begun, which its id tells."""
    return datetime.fromtimestamp(int(file_id[:16], 16) / 1e9, UTC)


class _Meter:
    """A number of bytes in a file, shared by processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_new = not path.exists()

    def read(self) -> int:
        with self._locked() as handle:
            return _number(handle)

    def add(self, count: int) -> None:
        with self._locked() as handle:
            os.pwrite(handle, struct.pack("<q", _number(handle) + count), 0)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
        finally:
            os.close(handle)


def _number(handle: int) -> int:
    stored = os.pread(handle, 8, 0)
    return struct.unpack("<q", stored)[0] if len(stored) == 8 else 0


def _new_file_id() -> str:
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


def _ids(folder: Path) -> list[str]:
    names = (entry.name for entry in os.scandir(folder))
    return sorted(
        name[:-4] for name in names if name.endswith(".dcm") and _FILE_ID.fullmatch(name[:-4])
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # moved on since it was listed
        return 0


def _remove_if_unlocked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise InboxFullError("the disk of the inbox is full: free disk space") from exc
        raise TemporaryError(f"the disk of the inbox failed: {exc.strerror}") from exc

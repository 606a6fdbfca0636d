"""The spool: the single source of truth for what was received.

::

    tmp/                  being written; its writer holds a lock on it
    new/                  received and durable, not yet in the index
    kept/<2 hex digits>/  in the index
    quarantine/           not usable; <file id>.json beside it says why
    bytes                 how much the three hold, shared by the processes
    pulled                how many files ``dicom-node harvest`` put here, shared in the same way

A file is named by the node's own id, never by a UID. It holds a PS3.10 file: preamble, File Meta
Information, then the data set exactly as it was sent.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dicom_node.errors import InboxFullError, PermanentError
from dicom_node.inbox import leftovers
from dicom_node.inbox.disk import Disk, Meter, disk_errors
from dicom_node.inbox.line import Line
from dicom_node.inbox.names import FILE_ID, file_ids, new_file_id
from dicom_node.inbox.part import Part

_REASON_LENGTH: Final = 200


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
        #: the waiting files, for the one caller that registers them
        self.line = Line(self._new)
        #: how many files were put here that no receiver counts
        self.pulled = Meter(folder / "pulled")
        self._meter = Meter(folder / "bytes")
        if self._meter.is_new:
            self.recount()

    @property
    def size_bytes(self) -> int:
        """What the inbox holds, as counted since the last `recount`."""
        return self._meter.read()

    @property
    def quota_left_bytes(self) -> int | None:
        """What still comes before the quota is reached, as counted; None without a quota."""
        return None if self._quota_bytes is None else self._quota_bytes - self._meter.read()

    @property
    def unfinished(self) -> int:
        """How many files are being written, or were when their writer died."""
        return sum(1 for _ in self._tmp.iterdir())

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
        with disk_errors():
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
                f"the inbox holds its quota of {quota} bytes: remove files from "
                "inbox/kept, which is noticed in about a minute, or raise node.inbox_quota_gib"
            )

    def create(self) -> Part:
        """Begin a file.

        Raises
        ------
        InboxFullError
            When there is no room.
        TemporaryError
            When the disk fails in another way.
        """
        self.check_room()
        name = f"{new_file_id()}.dcm"
        return Part(
            self._tmp / name,
            self._new / name,
            disk=self.disk,
            check_room=self.check_room,
            committed=self._meter.add,
        )

    def waiting(self, limit: int | None = None) -> list[str]:
        """Return the ids of files that no index row was confirmed for, oldest first."""
        return file_ids(self._new)[:limit]

    def kept(self) -> Iterator[list[str]]:
        """Yield the ids of registered files, folder by folder."""
        for folder in sorted(self._kept.iterdir()):
            yield file_ids(folder)

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
        if not FILE_ID.fullmatch(file_id):
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
        with suppress(OSError):  # it is gone all the same; the next recount finds it
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

    def is_quarantined(self, file_id: str) -> bool:
        """Whether a file lies in quarantine; the engineer may have removed it."""
        return (self._quarantine / f"{file_id}.dcm").exists()

    def quarantined_ids(self) -> list[str]:
        """Return the ids of the files put aside, oldest first."""
        return file_ids(self._quarantine)

    def quarantined(self, latest: int | None = None) -> list[tuple[str, str]]:
        """Return (file id, reason) of the files put aside, oldest first.

        Parameters
        ----------
        latest : int or None
            Only so many, the last ones: every reason is a file to read.
        """
        found = []
        ids = self.quarantined_ids()
        for file_id in ids if latest is None else ids[-latest:]:
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
        return len(self.sweep_ids())

    def sweep_ids(self) -> list[str]:
        """Do as `sweep` does; return the ids of the files that were removed."""
        return leftovers.sweep(self._tmp)

    def recount(self) -> int:
        """Count the bytes anew, in a walk over every file, while others receive and register.

        What comes or is registered while the waiting files are looked at may count twice, never
        not at all.

        Returns
        -------
        int
            Bytes of the files that were found.
        """
        before = self._meter.read()
        total = sum(found.st_size for found in _stats(self._new))
        # what comes to another place from here on was waiting, or is counted by its writer
        began_ns = time.time_ns()
        for folder in (self._quarantine, *self._kept.iterdir()):
            total += sum(
                found.st_size for found in _stats(folder) if not _came_since(began_ns, found)
            )
        self._meter.add(total - before)
        return total


def received_at(path: Path) -> datetime:
    """Return when the last byte of a received file came."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    # a million files: no Path for each
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".dcm"):
                with suppress(FileNotFoundError):  # moved on since it was listed
                    yield entry.stat(follow_symlinks=False)


def _came_since(moment_ns: int, found: os.stat_result) -> bool:
    # a rename sets it; a time to come is of a clock that was set back
    return moment_ns <= found.st_ctime_ns <= time.time_ns()

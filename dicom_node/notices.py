"""What peers said about instances, on its way from the receivers to the index.

::

    tmp/      being written; its writer holds a lock on it, a leftover was never acknowledged
    new/      durable, one JSON file a notice, named in the order of their coming
    broken/   not readable; never written by this program

A receiver acknowledges a notice once its file is durable. The worker reads the files in order and
removes each once the index has it; a notice that is read twice has the same ``file_id``. No
patient is in it: UIDs, a status and an AE title are all that is kept of a message.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dicom_node.config import Caller
from dicom_node.inbox import Disk, Inbox, file_ids, leftovers
from dicom_node.inbox.disk import disk_errors
from dicom_node.records import Notice, NoticeKind, Reference

_SUFFIX: Final = ".json"


class Notices:
    """The spool of notices in a folder, for several threads and processes.

    Parameters
    ----------
    folder : Path
        Created, with its sub-folders, when missing; mode 0700.
    disk : Disk
        The file layer.
    check_room : callable
        Raises when there is no room for something new.
    """

    def __init__(self, folder: Path, *, disk: Disk, check_room: Callable[[], None]) -> None:
        self.folder = folder
        self._disk = disk
        self._check_room = check_room
        self._tmp, self._new, self._broken = (folder / name for name in ("tmp", "new", "broken"))
        for sub_folder in (self._tmp, self._new, self._broken):
            sub_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def write(self, notice: Notice) -> None:
        """Make a notice durable: when this returns it survives a power cut.

        Raises
        ------
        InboxFullError
            When there is no room.
        TemporaryError
            When the disk fails in another way; nothing of the notice is left.
        """
        self._check_room()
        name = f"{notice.file_id}.json"
        part, target = self._tmp / name, self._new / name
        try:
            # locked until it is done: a sweep takes what nobody holds
            with disk_errors(), leftovers.create_locked(self._disk, part) as file:
                rest = memoryview(json.dumps(asdict(notice), default=str).encode())
                while rest:
                    rest = rest[file.write(rest) :]  # a disk that fills up takes a part
                self._disk.sync(file)
                self._disk.rename(part, target)
                self._disk.sync_folder(self._new)
        except BaseException:
            part.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
            raise

    def waiting(self, limit: int) -> Iterator[Notice]:
        """Yield the notices that wait longest, in order; an unreadable file is put aside."""
        for file_id in file_ids(self._new, _SUFFIX)[:limit]:
            path = self._new / f"{file_id}.json"
            try:
                yield _from_json(json.loads(path.read_text("utf-8")))
            except (ValueError, LookupError, TypeError):
                path.rename(self._broken / path.name)

    def remove(self, file_id: str) -> None:
        """Forget a notice that stands in the index; repeating it does no harm."""
        (self._new / f"{file_id}.json").unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what was being written when a receiver died; safe while others write.

        Returns
        -------
        int
            How many files were removed.
        """
        return len(leftovers.sweep(self._tmp))

    def __len__(self) -> int:
        return len(file_ids(self._new, _SUFFIX))


def open_notices(inbox: Inbox) -> Notices:
    """Open the spool that lies beside an inbox and shares its room."""
    folder = inbox.folder.parent / "notices"
    return Notices(folder, disk=inbox.disk, check_room=inbox.check_room)


def report_address(callers: Sequence[Caller], ae_title: str, host: str) -> tuple[str, int] | None:
    """Return where an Application Entity takes reports: host and port, None when nowhere.

    Parameters
    ----------
    callers : sequence of Caller
        ``node.callers``. Who is named with this AE title and host speaks before who is named with
        the AE title alone, and both before a wildcard.
    ae_title : str
        Of the requester.
    host : str
        Address that the request came from; for callers whose host is ``"*"``.
    """
    able = [c for c in callers if c.port is not None and c.ae_title in (ae_title.strip(), "*")]
    able.sort(key=lambda caller: (caller.ae_title == "*", caller.host != host))
    for caller in able:
        return (host if caller.host == "*" else caller.host), caller.port or 0
    return None


def _from_json(values: dict[str, Any]) -> Notice:
    failures = values.get("failures", ())
    return Notice(
        **values
        | {
            "kind": NoticeKind(values["kind"]),
            "study_instance_uids": tuple(values["study_instance_uids"]),
            "references": tuple(Reference(**each) for each in values["references"]),
            "received_at": datetime.fromisoformat(values["received_at"]).astimezone(UTC),
            # a former program wrote none
            "failures": tuple((Reference(**each), reason) for each, reason in failures),
        }
    )

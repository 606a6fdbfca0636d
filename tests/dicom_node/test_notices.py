import errno
import json
from dataclasses import replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from dicom_node.config import Caller
from dicom_node.errors import InboxFullError
from dicom_node.inbox import Disk, Inbox, new_file_id
from dicom_node.notices import Notices, open_notices, report_address
from dicom_node.records import Notice, NoticeKind, Reference

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class RecordingDisk(Disk):
    """Remembers the order of the calls, and refuses one of them when told."""

    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[str] = []
        self.fails_at = fails_at

    def sync(self, file: BinaryIO) -> None:
        self._note("sync")
        super().sync(file)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename")
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder")
        super().sync_folder(folder)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.fails_at:
            raise OSError(errno.ENOSPC, "no space left")


def notice(number: int = 1) -> Notice:
    return Notice(
        file_id=new_file_id(),
        kind=NoticeKind.COMMITMENT,
        calling_ae_title="MODALITY1",
        host="192.0.2.1",
        uid=f"1.2.{number}",
        status="",
        study_instance_uids=("1.9",),
        references=(Reference(sop_class_uid="1.2.3", sop_instance_uid=f"1.3.{number}"),),
        received_at=NOON,
    )


def spool(folder: Path, disk: Disk | None = None) -> Notices:
    return Notices(folder / "notices", disk=disk or Disk(), check_room=lambda: None)


def test_notices_are_read_back_in_the_order_of_their_coming(tmp_path: Path) -> None:
    written = [notice(number) for number in range(5)]
    for each in written:
        spool(tmp_path).write(each)
    assert list(spool(tmp_path).waiting(9)) == written
    assert list(spool(tmp_path).waiting(2)) == written[:2]


def test_a_report_is_read_back_with_its_failures_and_a_former_programs_notice_without(
    tmp_path: Path,
) -> None:
    lost = Reference(sop_class_uid="1.2.3", sop_instance_uid="1.3.9")
    report = replace(notice(1), kind=NoticeKind.REPORT, failures=((lost, 0x0112),))
    former, notices = notice(2), spool(tmp_path)
    notices.write(report)
    notices.write(former)
    path = tmp_path / "notices" / "new" / f"{former.file_id}.json"
    values = json.loads(path.read_text())
    del values["failures"]
    path.write_text(json.dumps(values))
    assert list(notices.waiting(9)) == [report, former]


def test_a_notice_waits_until_it_is_removed(tmp_path: Path) -> None:
    notices, given = spool(tmp_path), notice()
    notices.write(given)
    notices.remove(given.file_id)
    notices.remove(given.file_id)
    assert list(notices.waiting(9)) == []
    assert len(notices) == 0


def test_a_notice_is_synced_renamed_and_its_folder_synced_before_write_returns(
    tmp_path: Path,
) -> None:
    disk = RecordingDisk()
    spool(tmp_path, disk).write(notice())
    assert disk.calls == ["sync", "rename", "sync_folder"]


@pytest.mark.parametrize("step", ["sync", "rename", "sync_folder"])
def test_a_full_disk_leaves_nothing_of_a_notice(tmp_path: Path, step: str) -> None:
    notices = spool(tmp_path, RecordingDisk(step))
    with pytest.raises(InboxFullError):
        notices.write(notice())
    assert [path for path in notices.folder.rglob("*") if path.is_file()] == []


def test_an_inbox_below_its_low_water_mark_takes_no_notice(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=1 << 62)
    with pytest.raises(InboxFullError):
        open_notices(inbox).write(notice())


def test_a_file_that_is_no_notice_stops_no_other(tmp_path: Path) -> None:
    notices, given = spool(tmp_path), notice()
    (notices.folder / "new" / f"{0:024x}.json").write_text('{"kind": "?"}')
    (notices.folder / "new" / f"{1:024x}.json").write_bytes(b"\xff")
    notices.write(given)
    assert list(notices.waiting(9)) == [given]
    assert list(notices.waiting(9)) == [given]
    assert len(list((notices.folder / "broken").iterdir())) == 2


class SweptDisk(RecordingDisk):
    """Sweeps at each step, as a node that starts beside a receiver that still drains."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.swept: list[int] = []

    def _note(self, call: str) -> None:
        self.swept.append(spool(self.folder).sweep())
        super()._note(call)


def test_the_sweep_takes_what_a_dead_writer_left_at_once_and_spares_a_living_one(
    tmp_path: Path,
) -> None:
    disk, given = SweptDisk(tmp_path), notice()
    notices = spool(tmp_path, disk)
    notices.write(given)
    assert disk.swept == [0, 0, 0]
    assert list(notices.waiting(9)) == [given]
    (notices.folder / "tmp" / "left.json").write_text("{")
    assert notices.sweep() == 1
    assert list(notices.waiting(9)) == [given]


class SippingDisk(Disk):
    """Takes ten bytes at a time."""

    def create(self, path: Path) -> BinaryIO:
        super().create(path).close()
        return cast(BinaryIO, Sipping(path, "wb"))


class Sipping(FileIO):
    def write(self, data: Any) -> int:
        return super().write(bytes(data)[:10])


def test_a_disk_that_takes_a_part_at_a_time_gets_the_whole_notice(tmp_path: Path) -> None:
    notices, given = spool(tmp_path, SippingDisk()), notice()
    notices.write(given)
    assert list(notices.waiting(9)) == [given]


CALLERS = (
    Caller(ae_title="*", host="*", port=1),
    Caller(ae_title="SCANNER", host="192.0.2.1", port=2),
    Caller(ae_title="SCANNER", host="192.0.2.2", port=3),
    Caller(ae_title="MUTE", host="*"),
)


@pytest.mark.parametrize(
    ("ae_title", "host", "address"),
    [
        ("SCANNER", "192.0.2.2", ("192.0.2.2", 3)),
        ("SCANNER ", "192.0.2.9", ("192.0.2.1", 2)),
        ("OTHER", "192.0.2.9", ("192.0.2.9", 1)),
    ],
)
def test_the_best_named_caller_says_where_reports_go(
    ae_title: str, host: str, address: tuple[str, int]
) -> None:
    assert report_address(CALLERS, ae_title, host) == address


def test_a_caller_without_a_port_gets_no_report() -> None:
    assert report_address(CALLERS[3:], "MUTE", "192.0.2.1") is None

import json
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from dicom_node.errors import InboxFullError, PermanentError, TemporaryError
from dicom_node.inbox import Disk, Inbox, Part, began_at, received_at
from dicom_node.inbox.line import Line


class RecordingDisk(Disk):
    """The real file layer that also notes its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def create(self, path: Path) -> BinaryIO:
        self.calls.append("create")
        return super().create(path)

    def sync(self, file: BinaryIO) -> None:
        super().sync(file)
        self.calls.append("sync")

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.calls.append(f"rename {source.parent.name} {target.parent.name}")

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.calls.append(f"sync_folder {folder.name}")


class FullDisk(Disk):
    """A file layer on the kernel's own full device."""

    def create(self, path: Path) -> BinaryIO:
        path.touch()
        return Path("/dev/full").open("wb")


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


def receive(inbox: Inbox, data: bytes = b"data") -> str:
    part = inbox.create()
    part.write(data)
    part.commit()
    return part.file_id


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.dcm") if path.is_file()]


def test_a_committed_file_waits_under_its_own_id(inbox: Inbox) -> None:
    file_id = receive(inbox, b"bytes as sent")
    assert inbox.waiting() == [file_id]
    assert inbox.path(file_id).read_bytes() == b"bytes as sent"


def test_commit_syncs_the_file_before_the_rename_and_the_folder_after_it(tmp_path: Path) -> None:
    disk = RecordingDisk()
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=disk)
    disk.calls.clear()
    receive(inbox)
    assert disk.calls == ["create", "sync", "rename tmp new", "sync_folder new"]


def test_files_wait_in_the_order_of_their_arrival(inbox: Inbox) -> None:
    ids = [receive(inbox) for _ in range(20)]
    assert inbox.waiting() == ids
    assert inbox.waiting(limit=3) == ids[:3]


def test_a_file_counts_as_received_when_its_last_byte_came(inbox: Inbox) -> None:
    part = inbox.create()
    part.write(b"first")
    os.utime(next((inbox.folder / "tmp").iterdir()), (0, 0))
    part.write(b"last")
    path = part.commit()
    assert abs(received_at(path) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_discarded_part_leaves_nothing(inbox: Inbox) -> None:
    part = inbox.create()
    part.write(b"half")
    part.discard()
    part.discard()
    assert files_under(inbox.folder) == []
    with pytest.raises(TemporaryError):
        part.write(b"late")


def test_a_forgotten_part_leaves_nothing(inbox: Inbox) -> None:
    part = inbox.create()
    part.write(b"half")
    assert files_under(inbox.folder)
    del part
    assert files_under(inbox.folder) == []


def test_keeping_is_repeatable_and_the_path_follows(inbox: Inbox) -> None:
    file_id = receive(inbox)
    kept = inbox.keep(file_id)
    assert inbox.keep(file_id) == kept == inbox.path(file_id) == inbox.kept_path(file_id)
    assert inbox.waiting() == []
    assert [i for folder in inbox.kept() for i in folder] == [file_id]


def test_a_line_is_handed_out_oldest_first_and_listed_again_when_it_ended(inbox: Inbox) -> None:
    ids = [receive(inbox) for _ in range(5)]
    first = inbox.line.take(2)
    for file_id in first:
        inbox.keep(file_id)
    late = receive(inbox)
    assert [first, inbox.line.take(2), inbox.line.take(2)] == [ids[:2], ids[2:4], ids[4:]]
    # nobody took them out: they are no less waiting
    assert inbox.line.take(9) == [*ids[2:], late]
    for file_id in inbox.waiting():
        inbox.keep(file_id)
    assert inbox.line.take(9) == []


def test_what_is_put_off_stands_in_the_line_again_after_its_pause(inbox: Inbox) -> None:
    at_s = 0.0
    line = Line(inbox.folder / "new", clock=lambda: at_s)
    assert line.first() is None
    first, second = receive(inbox), receive(inbox)
    line.put_off(first, 60)
    assert (line.first(), line.take(9), line.take(9)) == (second, [second], [second])
    at_s = 60.0
    assert (line.first(), line.take(9)) == (first, [first, second])


def test_a_file_is_begun_before_its_last_byte_came(inbox: Inbox) -> None:
    before = datetime.now(UTC)
    file_id = receive(inbox)
    assert before <= began_at(file_id) + timedelta(milliseconds=1)
    # the clock of a file system may lag behind by a tick
    assert began_at(file_id) <= received_at(inbox.path(file_id)) + timedelta(milliseconds=20)


def test_a_quarantined_file_has_a_reason_beside_it(inbox: Inbox) -> None:
    waiting, kept = receive(inbox), receive(inbox)
    inbox.keep(kept)
    for file_id in (waiting, kept):
        inbox.quarantine(file_id, "StudyInstanceUID is missing")
    assert inbox.quarantined() == [
        (waiting, "StudyInstanceUID is missing"),
        (kept, "StudyInstanceUID is missing"),
    ]
    assert inbox.quarantined(latest=1) == [(kept, "StudyInstanceUID is missing")]
    assert inbox.quarantined_ids() == [waiting, kept]
    assert inbox.waiting() == []
    note = json.loads((inbox.folder / "quarantine" / f"{waiting}.json").read_text())
    assert note["file_id"] == waiting


def test_only_an_id_of_our_own_becomes_a_path(inbox: Inbox) -> None:
    for name in ("../../evil", "", "0" * 23, "A" * 24, "0" * 24 + "\n"):
        with pytest.raises(PermanentError):
            inbox.path(name)
    with pytest.raises(PermanentError, match="holds no file"):
        inbox.path("0" * 24)


def test_everything_is_readable_by_its_owner_alone(inbox: Inbox) -> None:
    kept = inbox.keep(receive(inbox))
    for path in (inbox.folder, *inbox.folder.iterdir(), kept, kept.parent):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_below_the_low_water_mark_nothing_new_begins(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=1 << 60)
    with pytest.raises(InboxFullError, match="min_free_gib"):
        inbox.create()
    assert files_under(tmp_path) == []


def test_over_its_quota_nothing_new_begins_until_something_leaves(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=1000)
    file_id = receive(inbox, b"x" * 1000)
    with pytest.raises(InboxFullError, match="inbox_quota_gib"):
        inbox.create()
    inbox.remove_duplicate(file_id)
    assert inbox.size_bytes == 0
    receive(inbox)


def test_a_growing_file_stops_at_the_quota(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=16 << 20)
    part = inbox.create()
    with pytest.raises(InboxFullError):
        for _ in range(40):
            part.write(b"x" * (1 << 20))
    assert part.size_bytes <= 24 << 20
    part.discard()


def test_two_inboxes_on_one_folder_share_the_count(tmp_path: Path) -> None:
    first = Inbox(tmp_path / "inbox", min_free_bytes=0)
    second = Inbox(tmp_path / "inbox", min_free_bytes=0)
    receive(first, b"x" * 10)
    receive(second, b"x" * 32)
    assert first.size_bytes == second.size_bytes == 42
    (tmp_path / "inbox" / "bytes").unlink()
    assert Inbox(tmp_path / "inbox", min_free_bytes=0).size_bytes == 42


def test_a_recount_finds_what_changed_behind_the_back(inbox: Inbox) -> None:
    gone, kept = receive(inbox, b"x" * 10), receive(inbox, b"x" * 32)
    inbox.keep(kept)
    inbox.path(gone).unlink()
    assert inbox.size_bytes == 42
    assert inbox.recount() == inbox.size_bytes == 32


def test_what_comes_during_a_recount_is_counted(inbox: Inbox) -> None:
    before = [receive(inbox, b"x" * 10) for _ in range(1500)]
    for file_id in before[50:]:
        inbox.keep(file_id)
    counted, came = threading.Event(), 0

    def count() -> None:
        for _ in range(5):
            inbox.recount()
        counted.set()

    counter = threading.Thread(target=count)
    counter.start()
    while not counted.is_set():
        inbox.keep(before[came % 50])
        inbox.keep(receive(inbox, b"x" * 10))
        came += 1
    counter.join()
    assert came > 1
    held = 10 * (len(before) + came)
    # only what moved while the waiting line was looked at may have counted twice
    assert held <= inbox.size_bytes <= held + 10 * 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
@pytest.mark.parametrize("size", [10, 1 << 20], ids=["at commit", "at write"])
def test_a_full_disk_is_an_inbox_full_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=FullDisk())
    part = inbox.create()
    with pytest.raises(InboxFullError, match="disk of the inbox is full"):
        part.write(b"x" * size)
        part.commit()
    part.discard()
    assert files_under(tmp_path) == []
    assert inbox.size_bytes == 0


def test_a_failing_folder_sync_is_no_success_and_leaves_nothing(tmp_path: Path) -> None:
    class FailingDisk(Disk):
        def sync_folder(self, folder: Path) -> None:
            if folder.name == "new":
                raise OSError(5, "Input/output error")

    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=FailingDisk())
    with pytest.raises(TemporaryError, match="Input/output error"):
        receive(inbox)
    assert files_under(tmp_path) == []


def test_a_count_that_fails_takes_no_success_back(inbox: Inbox) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    name = f"{1:024x}.dcm"
    part = Part(
        inbox.folder / "tmp" / name,
        inbox.folder / "new" / name,
        disk=Disk(),
        check_room=inbox.check_room,
        committed=fail,
    )
    part.write(b"whole")
    assert part.commit().read_bytes() == b"whole"
    part.discard()
    assert inbox.waiting() == [part.file_id]


def test_a_leftover_that_cannot_be_removed_stops_no_other(inbox: Inbox) -> None:
    for number in range(3):
        (inbox.folder / "tmp" / f"{number:024x}.dcm").write_bytes(b"half")
    stays = inbox.folder / "tmp" / f"{1:024x}.dcm"
    stays.unlink()
    stays.mkdir()  # no permission would keep a superuser from it
    assert inbox.sweep() == 2
    assert list((inbox.folder / "tmp").iterdir()) == [stays]


def begin_and_wait(folder: Path, started: Callable[[], None]) -> None:
    part = Inbox(folder, min_free_bytes=0).create()
    part.write(b"half")
    started()
    signal.pause()


def test_the_sweep_takes_what_a_killed_writer_left_and_spares_a_living_one(inbox: Inbox) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    writer = context.Process(target=begin_and_wait, args=(inbox.folder, started.set))
    writer.start()
    assert started.wait(30)
    mine = inbox.create()
    assert inbox.sweep() == 0
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(10)
    assert inbox.sweep() == 1
    mine.write(b"whole")
    mine.commit()
    assert inbox.waiting() == [mine.file_id]


def test_a_file_that_is_swept_before_its_writer_locked_it_is_made_again(tmp_path: Path) -> None:
    class SweptDisk(Disk):
        def create(self, path: Path) -> BinaryIO:
            file = super().create(path)
            swept.append(Inbox(path.parents[1], min_free_bytes=0).sweep() if not swept else 0)
            return file

    swept: list[int] = []
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=SweptDisk())
    file_id = receive(inbox, b"whole")
    assert swept == [1, 0]
    assert inbox.path(file_id).read_bytes() == b"whole"
    assert list((inbox.folder / "tmp").iterdir()) == []

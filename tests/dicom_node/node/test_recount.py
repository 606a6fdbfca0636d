import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.errors import InboxFullError
from dicom_node.inbox import Inbox
from dicom_node.node.recount import MARGIN_BYTES, keep_counted

LONG_S = 20.0


class CountingInbox(Inbox):
    """The real inbox that also says how often it was counted."""

    counts = 0

    def recount(self) -> int:
        self.counts += 1
        return super().recount()


class LookedAtInbox(CountingInbox):
    """The real inbox that also says how often somebody looked what is left of the quota."""

    looks = 0

    @property
    def quota_left_bytes(self) -> int | None:
        self.looks += 1
        return super().quota_left_bytes


def kept(inbox: Inbox, size_bytes: int) -> Path:
    part = inbox.create()
    part.write(b"x" * size_bytes)
    part.commit()
    return inbox.keep(part.file_id)


@contextmanager
def counted_by(inbox: Inbox, every_s: float = 0.01) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=keep_counted, args=(inbox, stop), kwargs={"every_s": every_s})
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(LONG_S)
        assert not thread.is_alive()


def soon(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LONG_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def test_files_that_somebody_removes_from_a_full_inbox_make_room(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=100)
    stays, goes = kept(inbox, 30), kept(inbox, 70)
    with counted_by(inbox):
        with pytest.raises(InboxFullError, match="inbox/kept"):
            inbox.check_room()
        goes.unlink()
        assert soon(lambda: inbox.size_bytes == 30)
        inbox.check_room()
    assert stays.exists()


def test_room_for_a_still_but_not_for_a_cine_is_looked_at_again_too(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=MARGIN_BYTES + 10)
    goes = kept(inbox, 11)
    with counted_by(inbox):
        inbox.check_room()
        goes.unlink()
        assert soon(lambda: inbox.size_bytes == 0)


@pytest.mark.parametrize("quota_bytes", [None, 2 * MARGIN_BYTES], ids=["no quota", "room"])
def test_an_inbox_with_room_is_counted_once(tmp_path: Path, quota_bytes: int | None) -> None:
    inbox = LookedAtInbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=quota_bytes)
    kept(inbox, 10)
    before = inbox.counts
    with counted_by(inbox):
        assert soon(lambda: inbox.looks > 5)
    assert inbox.counts == before + 1


def test_a_low_disk_alone_counts_nothing_anew(tmp_path: Path) -> None:
    inbox = LookedAtInbox(tmp_path / "inbox", min_free_bytes=1 << 62)
    before = inbox.counts
    with counted_by(inbox):
        assert soon(lambda: inbox.looks > 5)
    assert inbox.counts == before + 1


def test_a_count_that_failed_is_tried_again(tmp_path: Path) -> None:
    inbox = CountingInbox(tmp_path / "inbox", min_free_bytes=0)
    kept(inbox, 10).unlink()
    folder = tmp_path / "inbox" / "kept"
    folder.rename(tmp_path / "away")
    before = inbox.counts
    with counted_by(inbox):
        assert soon(lambda: inbox.counts > before + 1)
        assert inbox.size_bytes == 10
        (tmp_path / "away").rename(folder)
        assert soon(lambda: inbox.size_bytes == 0)


def test_it_ends_with_the_worker_and_not_a_minute_later(tmp_path: Path) -> None:
    inbox = CountingInbox(tmp_path / "inbox", min_free_bytes=0)
    before = inbox.counts
    with counted_by(inbox, every_s=10 * LONG_S):
        assert soon(lambda: inbox.counts == before + 1)

"""A disk that refuses a step, or runs low: what the sender is told, and what is left."""

import errno
import io
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from dicom_node.inbox import Disk, Inbox
from dicom_node.receive import statuses
from tests.support.receiving import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    EXPLICIT_LE,
    US_IMAGE,
    RawPeer,
    associate_rq,
    p_data,
    receiver,
    settings_for,
    store_command,
)

pytestmark = pytest.mark.dimse

SMALL = b"\x08\x00\x60\x00CS\x02\x00US"
STEPS = ("create", "write", "sync", "rename", "sync_folder")
MIB = 1 << 20


class RefusingFile(io.FileIO):
    """A file that takes no byte."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(path, "xb")
        self._number = number

    def write(self, _: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


class SteppedDisk(Disk):
    """The real file layer, which tells before each step that it comes to it."""

    def __init__(self) -> None:
        self.step = ""

    def arrive(self) -> None:
        """Be at the step whose name `self.step` is."""
        raise NotImplementedError

    def create(self, path: Path) -> BinaryIO:
        self._look("create")
        return super().create(path)

    def sync(self, file: BinaryIO) -> None:
        self._look("sync")
        super().sync(file)

    def rename(self, source: Path, target: Path) -> None:
        self._look("rename")
        super().rename(source, target)

    def sync_folder(self, folder: Path) -> None:
        self._look("sync_folder")
        super().sync_folder(folder)

    def _look(self, step: str) -> None:
        if step == self.step:
            self.arrive()


class RefusingDisk(SteppedDisk):
    """One step ends with an error of the system."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def arrive(self) -> None:
        raise OSError(self.number, os.strerror(self.number))

    def create(self, path: Path) -> BinaryIO:
        if self.step == "write":
            return cast(BinaryIO, RefusingFile(path, self.number))
        return super().create(path)


class HeldDisk(SteppedDisk):
    """One step waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_there, self.may_go_on = threading.Event(), threading.Event()

    def arrive(self) -> None:
        self.is_there.set()
        assert self.may_go_on.wait(20)


@pytest.mark.parametrize("step", ["sync", "rename", "sync_folder"])
def test_nothing_is_answered_before_each_step_is_done(
    tmp_path: Path, free_port: Callable[[], int], step: str
) -> None:
    disk = HeldDisk()
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=disk)
    disk.step = step
    with receiver(settings_for(free_port()), inbox) as running, RawPeer(running.port) as peer:
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(2, SMALL))
        assert disk.is_there.wait(10)
        assert peer.is_open()  # and nothing came
        disk.may_go_on.set()
        peer.socket.settimeout(10)
        assert peer.status() == statuses.SUCCESS.code


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.ENOSPC, statuses.OUT_OF_RESOURCES),
        (errno.EDQUOT, statuses.OUT_OF_RESOURCES),
        (errno.EIO, statuses.PROCESSING_FAILURE),
    ],
    ids=["ENOSPC", "EDQUOT", "EIO"],
)
def test_a_step_that_the_disk_refuses_is_answered_and_leaves_nothing(
    tmp_path: Path, free_port: Callable[[], int], number: int, status: statuses.Status, step: str
) -> None:
    disk = RefusingDisk(number)
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=disk)
    with receiver(settings_for(free_port()), inbox) as running, RawPeer(running.port) as peer:
        peer.associate()
        disk.step = step
        assert peer.store(b"1.2.3", SMALL) == status.code
        assert running.unfinished() == running.received() == []
        assert inbox.size_bytes == 0
        # when it is over it goes on by itself
        disk.step = ""
        assert peer.store(b"1.2.3", SMALL) == statuses.SUCCESS.code
    assert len(running.received()) == 1


def test_below_the_low_water_mark_who_wants_to_store_is_rejected_for_now_until_there_is_room(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < 600 * MIB:
        pytest.skip("needs 600 MiB of free disk space")
    # others write to this disk, too: far from the mark on both sides
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=free - 256 * MIB)
    ballast = tmp_path / "ballast"
    with receiver(settings_for(free_port()), inbox) as running:
        assert stores(running.port, b"1.2.1")
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 512 * MIB)
        with RawPeer(running.port) as peer:
            peer.send(associate_rq([(US_IMAGE, [EXPLICIT_LE])]))
            # rejected-transient, service-provider (presentation), temporary-congestion
            assert peer.read() == (ASSOCIATE_RJ, b"\0\2\3\1")
        with RawPeer(running.port) as peer:
            peer.send(associate_rq([("1.2.840.10008.1.1", [EXPLICIT_LE])]))
            assert peer.read()[0] == ASSOCIATE_AC
        ballast.unlink()
        assert stores(running.port, b"1.2.2")
    assert len(running.received()) == 2


def stores(port: int, sop_instance_uid: bytes) -> bool:
    """Tell whether an instance is taken on a new association."""
    with RawPeer(port) as peer:
        peer.associate()
        return peer.store(sop_instance_uid, SMALL) == statuses.SUCCESS.code

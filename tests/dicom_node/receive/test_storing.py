from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from pydicom import dcmread

from dicom_node import metrics
from dicom_node.inbox import Disk, Inbox
from dicom_node.receive import statuses
from dicom_node.receive.storing import StoreCommand, Storing, file_meta
from tests.support.receiving import EXPLICIT_LE, US_IMAGE, data_set
from tests.support.waiting import stop_counting

COMMAND = StoreCommand(
    sop_class_uid=US_IMAGE,
    sop_instance_uid="1.2.3",
    abstract_syntax_uid=US_IMAGE,
    transfer_syntax_uid=EXPLICIT_LE,
    calling_ae_title="PEER",
)
#: (0008,0060) CS US
DATA_SET = b"\x08\x00\x60\x00CS\x02\x00US"


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


def everything_under(folder: Path) -> list[Path]:
    return list(folder.rglob("*.dcm"))


def test_success_means_a_complete_file_with_the_bytes_as_sent(inbox: Inbox) -> None:
    storing = Storing(inbox, COMMAND)
    storing.write(DATA_SET[:4])
    storing.write(memoryview(DATA_SET)[4:])
    assert inbox.waiting() == []
    assert storing.finish() is statuses.SUCCESS
    path = inbox.path(inbox.waiting()[0])
    assert data_set(path) == DATA_SET
    header = dcmread(path)
    assert header.Modality == "US"
    assert header.file_meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert header.file_meta.SourceApplicationEntityTitle == "PEER"
    assert header.file_meta.TransferSyntaxUID == EXPLICIT_LE


@pytest.mark.parametrize("uid", ["", "../../evil", "1.2\\1.3", "1" * 65, "1.2\0.3", "1.2 "])
def test_what_is_no_uid_is_an_invalid_sop_instance(inbox: Inbox, uid: str) -> None:
    storing = Storing(inbox, replace(COMMAND, sop_instance_uid=uid))
    storing.write(DATA_SET)
    assert storing.finish() is statuses.INVALID_SOP_INSTANCE
    assert everything_under(inbox.folder) == []


def test_a_uid_that_archives_hold_although_it_is_illegal_is_taken(inbox: Inbox) -> None:
    storing = Storing(inbox, replace(COMMAND, sop_instance_uid="1.2.003"))
    storing.write(DATA_SET)
    assert storing.finish() is statuses.SUCCESS
    assert b"1.2.003" in inbox.path(inbox.waiting()[0]).read_bytes()


def test_another_sop_class_than_negotiated_is_refused(inbox: Inbox) -> None:
    storing = Storing(inbox, replace(COMMAND, sop_class_uid="1.2.840.10008.5.1.4.1.1.2"))
    storing.write(DATA_SET)
    assert storing.finish() is statuses.SOP_CLASS_NOT_SUPPORTED
    assert everything_under(inbox.folder) == []


def test_an_empty_data_set_cannot_be_understood(inbox: Inbox) -> None:
    storing = Storing(inbox, COMMAND)
    storing.write(b"")
    assert storing.finish() is statuses.CANNOT_UNDERSTAND
    assert everything_under(inbox.folder) == []


def test_no_room_is_out_of_resources(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=1 << 60)
    storing = Storing(inbox, COMMAND)
    storing.write(DATA_SET)
    assert storing.finish() is statuses.OUT_OF_RESOURCES


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
@pytest.mark.parametrize("size", [10, 1 << 20], ids=["at commit", "at write"])
def test_a_full_disk_is_out_of_resources_whenever_it_fills(tmp_path: Path, size: int) -> None:
    class FullDisk(Disk):
        def create(self, path: Path) -> BinaryIO:
            path.touch()
            return Path("/dev/full").open("wb")

    storing = Storing(Inbox(tmp_path / "inbox", min_free_bytes=0, disk=FullDisk()), COMMAND)
    for _ in range(3):
        storing.write(b"x" * size)
    assert storing.finish() is statuses.OUT_OF_RESOURCES
    assert everything_under(tmp_path) == []


def test_a_failing_disk_is_a_processing_failure(tmp_path: Path) -> None:
    class FailingDisk(Disk):
        def sync(self, file: BinaryIO) -> None:
            raise OSError(5, "Input/output error")

    storing = Storing(Inbox(tmp_path / "inbox", min_free_bytes=0, disk=FailingDisk()), COMMAND)
    storing.write(DATA_SET)
    assert storing.finish() is statuses.PROCESSING_FAILURE
    assert everything_under(tmp_path) == []


def test_a_discarded_transfer_leaves_nothing_and_is_no_success(inbox: Inbox) -> None:
    storing = Storing(inbox, COMMAND)
    storing.write(DATA_SET)
    storing.discard()
    assert everything_under(inbox.folder) == []
    storing.write(DATA_SET)
    assert storing.finish() is not statuses.SUCCESS


def test_the_group_length_of_the_file_meta_is_right() -> None:
    meta = file_meta(COMMAND)
    assert len(meta) % 2 == 0
    assert int.from_bytes(meta[140:144], "little") == len(meta) - 144


def test_every_instance_has_exactly_one_end(
    inbox: Inbox, tmp_path: Path, counted: metrics.Page
) -> None:
    good = Storing(inbox, COMMAND)
    good.write(DATA_SET)
    good.finish()
    good.discard()  # the association ends later
    broken_off = Storing(inbox, COMMAND)
    broken_off.write(DATA_SET)
    broken_off.discard()
    no_uid = Storing(inbox, replace(COMMAND, sop_instance_uid="../evil"))
    no_uid.write(DATA_SET)
    no_uid.discard()  # refused already, then broken off
    empty = Storing(inbox, COMMAND)
    empty.finish()
    Storing(Inbox(tmp_path / "full", min_free_bytes=1 << 60), COMMAND).finish()
    assert counted.get(metrics.RECEIVED) == 5
    assert counted.get(metrics.STORED) == 1
    assert counted.get(metrics.ABORTED) == 1
    refused = {key[0]: count for key, count in counted.values(metrics.REFUSED).items() if count}
    assert refused == {"0117": 1, "C000": 1, "A700": 1}


class RenameFails(Disk):
    """A disk that fails at the last step."""

    def rename(self, source: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")


def test_an_instance_is_received_when_its_end_is_decided_and_only_once(
    tmp_path: Path, counted: metrics.Page
) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, disk=RenameFails())
    storing = Storing(inbox, COMMAND)
    storing.write(DATA_SET)
    assert counted.get(metrics.RECEIVED) == 0
    assert storing.finish() is statuses.PROCESSING_FAILURE
    storing.discard()
    assert counted.get(metrics.RECEIVED) == counted.get(metrics.REFUSED, "0110") == 1
    assert counted.get(metrics.STORED) == counted.get(metrics.ABORTED) == 0


def test_an_inbox_that_cannot_count_its_bytes_has_them_all_the_same(
    inbox: Inbox, counted: metrics.Page
) -> None:
    stop_counting(inbox)
    storing = Storing(inbox, COMMAND)
    storing.write(DATA_SET)
    assert storing.finish() is statuses.SUCCESS
    assert len(inbox.waiting()) == 1
    assert counted.get(metrics.RECEIVED) == counted.get(metrics.STORED) == 1

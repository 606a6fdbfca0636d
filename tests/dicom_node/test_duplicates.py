"""The same SOP Instance UID twice: from the network into the index."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.register import RegisterCounts, register_waiting
from tests.support.nodes import Node, node_on, send, until
from tests.support.receiving import (
    EXPLICIT_LE,
    RawPeer,
    Receiver,
    data_set,
    p_data,
    receiver,
    settings_for,
    store_command,
)

pytestmark = pytest.mark.dimse

PALETTE = Path(str(get_testdata_file("examples_palette.dcm")))
ROUNDS = 5


@pytest.fixture
def running(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Receiver]:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    with receiver(settings_for(free_port()), inbox) as running:
        yield running


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    with node_on(tmp_path, free_port()) as configured:
        yield configured


def at_once(port: int, uid: str, bodies: list[bytes]) -> list[int]:
    """Store an instance on several associations whose last fragments go off together."""
    barrier = threading.Barrier(len(bodies))
    statuses: list[int] = []

    def store(body: bytes) -> None:
        with RawPeer(port) as peer:
            peer.associate(sop_class)
            peer.send(p_data(3, store_command(uid.encode(), sop_class_uid=sop_class)))
            for start in range(0, len(body) - 2, 65536):
                peer.send(p_data(0, body[start : min(start + 65536, len(body) - 2)]))
            barrier.wait(20)
            peer.send(p_data(2, body[-2:]))
            statuses.append(peer.status())

    sop_class = str(dcmread(PALETTE, specific_tags=["SOPClassUID"]).SOPClassUID)
    threads = [threading.Thread(target=store, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return statuses


def instance(folder: Path, number: int, pixel: int = 0) -> tuple[str, bytes]:
    """Return the UID and the data set of an image; `pixel` changes its bytes."""
    ds = dcmread(PALETTE)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    ds.file_meta.TransferSyntaxUID = EXPLICIT_LE
    ds.PixelData = bytes([pixel]) + ds.PixelData[1:]
    ds.save_as(folder / "made.dcm")
    return str(ds.SOPInstanceUID), data_set(folder / "made.dcm")


def test_one_instance_on_two_associations_at_once_is_kept_once(
    running: Receiver, index: Index, tmp_path: Path
) -> None:
    for number in range(ROUNDS):
        uid, body = instance(tmp_path, number)
        assert at_once(running.port, uid, [body, body]) == [0, 0]
    counts = register_waiting(running.inbox, index, now=datetime.now(UTC))
    assert counts == RegisterCounts(new=ROUNDS, duplicates=ROUNDS)
    kept = [path for folder in running.inbox.kept() for path in folder]
    assert len(kept) == ROUNDS
    assert running.inbox.quarantined() == []


def test_two_bodies_under_one_uid_at_once_are_both_kept_and_one_is_put_aside(
    running: Receiver, index: Index, tmp_path: Path
) -> None:
    bodies = []
    for number in range(ROUNDS):
        (uid, one), (_, other) = instance(tmp_path, number), instance(tmp_path, number, pixel=9)
        assert one != other
        assert at_once(running.port, uid, [one, other]) == [0, 0]
        bodies += [one, other]
    counts = register_waiting(running.inbox, index, now=datetime.now(UTC))
    assert counts == RegisterCounts(new=ROUNDS, conflicts=ROUNDS)
    assert len(running.inbox.quarantined()) == ROUNDS
    files = [*(running.inbox.folder / "kept").rglob("*.dcm")]
    files += (running.inbox.folder / "quarantine").glob("*.dcm")
    assert sorted(data_set(path) for path in files) == sorted(bodies)


@pytest.mark.data
@pytest.mark.slow
def test_real_files_that_share_a_uid_are_both_kept_and_the_engineer_is_told(
    node: Node, test_data: Path
) -> None:
    rle = test_data / "dicom_us" / "pydicom__OBXXXX1A_rle.dcm"
    assert dcmread(PALETTE).SOPInstanceUID == dcmread(rle).SOPInstanceUID
    node.start()
    assert send([PALETTE], node.port) == [0]
    uid = str(dcmread(PALETTE).SOPInstanceUID)

    def registered() -> bool:
        with node.index() as index:
            return index.find(uid) is not None

    until(registered, why=node.log)
    assert send([rle], node.port) == [0]
    until(lambda: "is known with other bytes" in node.log, why=node.log)
    [line] = [line for line in node.log.splitlines() if '"quarantined"' in line]
    assert '"level": "error"' in line
    with node.index() as index:
        found = index.find(uid)
    assert found is not None
    [aside] = (node.layout.inbox / "quarantine").glob("*.dcm")
    assert data_set(found.path) == data_set(PALETTE)
    assert data_set(aside) == data_set(rle)
    status = node.cli("status", "--json").stdout
    assert f"{uid} is known with other bytes" in status
    assert '"quarantined": 1' in status


@pytest.mark.slow
def test_the_same_bytes_again_are_acknowledged_and_open_nothing(node: Node) -> None:
    node.start()
    study = str(dcmread(PALETTE).StudyInstanceUID)
    assert send([PALETTE], node.port) == [0]
    until(lambda: node.finished(study), why=node.log)
    assert send([PALETTE], node.port) == [0]
    until(lambda: '"duplicates": 1' in node.log, why=node.log)
    with node.index() as index:
        row = index.study(study)
    assert row is not None
    assert (row.state, row.revision, row.instances) == ("complete", 1, 1)

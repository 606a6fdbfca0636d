import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.index import StudyRow, StudyState
from dicom_node.records import Task
from tests.support.faults import POINTS, Fault, Faults
from tests.support.nodes import Node, node_on, until
from tests.support.pacs import Pacs, pacs
from tests.support.receiving import ABORT, RawPeer, p_data, store_command

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.torture.destination import KINDS
from tests.torture.studies import Image, study

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

DRAIN_S = 3.0
ANALYSE, SETTLE, LEASE, CREATE = (
    next(point for point in POINTS if point.function == name)
    for name in ("analyse_study", "Stills.settle", "Outbox.lease", "Inbox.create")
)
STILL, STILL_OF_ANOTHER_STUDY = (
    next(image for image in study(7, number) if image.frames == 1) for number in (0, 1)
)


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), drain_s=DRAIN_S) as configured:
        yield configured


@pytest.fixture
def patient_node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), quiet_s=5) as configured:
        yield configured


def begin(node: Node, image: Image) -> RawPeer:
    """Associate and send the first half of an image."""
    peer = RawPeer(node.port)
    peer.associate()
    command = store_command(image.sop_instance_uid.encode(), sop_class_uid=image.sop_class_uid)
    peer.send(p_data(3, command) + p_data(0, image.data[: len(image.data) // 2]))
    until(lambda: list((node.layout.inbox / "tmp").iterdir()), why=node.log)
    return peer


def store(node: Node, image: Image) -> None:
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store(image.sop_instance_uid.encode(), image.data) == 0


def terminate(node: Node) -> None:
    """Send SIGTERM and wait until the port is closed."""
    assert node.process is not None
    node.process.terminate()
    until(lambda: not is_listening(node.port), deadline_s=5, why=node.log)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True


def files(node: Node, *folders: str) -> list[Path]:
    return [path for name in folders for path in (node.layout.inbox / name).rglob("*.dcm")]


def row(node: Node, image: Image) -> StudyRow | None:
    with node.index() as index:
        return index.study(image.study_instance_uid)


def complete(node: Node, image: Image) -> StudyRow | None:
    found = row(node, image)
    return found if found is not None and found.state is StudyState.COMPLETE else None


def test_a_stop_waits_for_a_running_transfer_and_takes_no_new_association(node: Node) -> None:
    node.start()
    assert node.process is not None
    with begin(node, STILL) as peer:
        terminate(node)
        assert node.process.poll() is None
        peer.send(p_data(2, STILL.data[len(STILL.data) // 2 :]))
        assert peer.status() == 0
    assert node.process.wait(30) == 0
    assert '"stopped"' in node.log
    assert files(node, "tmp") == []
    assert len(files(node, "new", "kept")) == 1


def test_a_stop_aborts_a_transfer_that_does_not_end_and_leaves_nothing_of_it(node: Node) -> None:
    node.start()
    assert node.process is not None
    with begin(node, STILL) as peer:
        began = time.monotonic()
        terminate(node)
        kind, _ = peer.read()
        assert kind == ABORT
        assert time.monotonic() - began >= DRAIN_S * 0.9
    assert node.process.wait(30) == 0
    assert time.monotonic() - began < DRAIN_S + 10
    assert files(node, "tmp", "new", "kept") == []


def test_an_idle_association_does_not_hold_up_a_stop(node: Node) -> None:
    node.start()
    assert node.process is not None
    with RawPeer(node.port) as peer:
        peer.associate()
        began = time.monotonic()
        terminate(node)
        kind, _ = peer.read()
        assert kind == ABORT
        assert time.monotonic() - began < DRAIN_S
    assert node.process.wait(30) == 0


def test_a_study_that_was_open_at_a_stop_completes_once_by_its_quiet_time(
    patient_node: Node,
) -> None:
    node = patient_node
    node.start()
    store(node, STILL)
    until(lambda: row(node, STILL), why=node.log)
    assert node.stop() == 0
    stopped = row(node, STILL)
    assert stopped is not None
    assert stopped.state is StudyState.OPEN
    node.start()
    ready = datetime.now(UTC)
    until(lambda: node.finished(STILL.study_instance_uid), why=node.log)
    found = row(node, STILL)
    assert found is not None
    assert found.completed_at is not None
    due = stopped.last_received_at + timedelta(seconds=5)
    assert due <= found.completed_at < max(due, ready) + timedelta(seconds=3)
    assert found.revision == 1
    assert node.stop() == 0
    node.start()
    later = STILL_OF_ANOTHER_STUDY
    store(node, later)
    until(lambda: complete(node, later), why=node.log)
    assert row(node, STILL) == found


def test_a_start_sweeps_adopts_and_says_how_much(node: Node) -> None:
    node.start()
    store(node, STILL)
    store(node, STILL_OF_ANOTHER_STUDY)
    until(lambda: len(files(node, "kept")) == 2, why=node.log)
    assert node.stop() == 0
    for file in node.layout.data.glob("index.db*"):
        file.unlink()
    (node.layout.inbox / "tmp" / f"{'0' * 24}.dcm").write_bytes(b"what a killed writer left")
    (node.layout.data / "notices" / "tmp" / "half.json").write_bytes(b"as above")
    (waiting,) = files(node, "kept")[:1]
    waiting.rename(node.layout.inbox / "new" / waiting.name)
    node.start()
    assert '"leftovers_swept": 1' in node.log
    assert '"notices_swept": 1' in node.log
    assert '"orphans_adopted": 1' in node.log
    for image in (STILL, STILL_OF_ANOTHER_STUDY):
        until(lambda image=image: complete(node, image), why=node.log)
    assert files(node, "tmp", "new") == []
    assert len(files(node, "kept")) == 2


@pytest.fixture
def peer(free_port: Callable[[], int]) -> Iterator[Pacs]:
    with pacs(free_port(), *KINDS) as running:
        yield running


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path / "faults")


@pytest.fixture
def answering(
    tmp_path: Path, free_port: Callable[[], int], peer: Pacs, faults: Faults
) -> Iterator[Node]:
    """Return a node with models, a destination and fault points."""
    with node_on(tmp_path, free_port(), peer.destination) as configured:
        for task in Task:
            write_bundle(tmp_path / "bundles" / f"{task.value}.onnx", task)
        configured.environment = faults.environment
        yield configured


def store_until(node: Node, image: Image, faults: Faults, fault: Fault) -> None:
    """Store an image in a node that ends at a fault point on the way."""
    faults.arm(fault)
    node.start()
    store(node, image)
    until(lambda: faults.has_fired(fault), why=node.log)
    assert node.process is not None
    node.process.wait(10)


def test_a_job_that_was_half_done_goes_on_and_is_not_done_twice(
    answering: Node, peer: Pacs, faults: Faults
) -> None:
    node = answering
    store_until(node, STILL, faults, Fault(number=0, point=ANALYSE, moment="after", is_group=True))
    results = sorted(node.layout.results.glob("*.dcm"))
    assert len(results) == len(KINDS)
    node.start()
    assert '"jobs_resumed": 1' in node.log
    until(lambda: node.finished(STILL.study_instance_uid), why=node.log)
    until(lambda: len(peer.received) == len(KINDS), why=node.log)
    assert node.stop() == 0
    assert sorted(node.layout.results.glob("*.dcm")) == results
    assert {str(ds.SOPClassUID) for ds in peer.received} == set(KINDS)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_stills_that_were_merged_when_the_node_was_killed_are_sent_once(
    answering: Node, peer: Pacs, faults: Faults, moment: str
) -> None:
    node = answering
    store_until(node, STILL, faults, Fault(number=0, point=SETTLE, moment=moment, is_group=True))
    results = sorted(node.layout.results.rglob("*.dcm"))
    node.start()
    until(lambda: node.finished(STILL.study_instance_uid), why=node.log)
    until(lambda: len(peer.received) == len(KINDS), why=node.log)
    assert node.stop() == 0
    assert sorted(node.layout.results.rglob("*.dcm")) == results
    assert {str(ds.SOPClassUID) for ds in peer.received} == set(KINDS)


def test_a_late_image_is_delivered_at_once_where_a_kill_came_before_the_lease(
    answering: Node, peer: Pacs, faults: Faults
) -> None:
    node = answering
    first, late = next(images for number in range(99) if len(images := study(8, number)) == 2)
    store_until(node, first, faults, Fault(number=0, point=LEASE, moment="before", is_group=True))
    node.start()
    until(lambda: len(peer.received) == len(KINDS), why=node.log)
    store(node, late)
    until(lambda: len(peer.received) == 2 * len(KINDS), why=node.log)


def test_what_a_killed_receiver_had_just_begun_is_swept_while_the_node_goes_on(
    answering: Node, faults: Faults
) -> None:
    node = answering
    fault = Fault(number=0, point=CREATE, moment="after")
    faults.arm(fault)
    node.start()
    with RawPeer(node.port) as sender:
        sender.associate()
        command = store_command(STILL.sop_instance_uid.encode(), sop_class_uid=STILL.sop_class_uid)
        sender.send(p_data(3, command))
        assert sender.is_closed()
    assert faults.has_fired(fault)
    until(lambda: '"leftovers swept"' in node.log, why=node.log)
    assert files(node, "tmp") == []

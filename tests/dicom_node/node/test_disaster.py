"""A node that is backed up while it works, and dies; another machine goes on."""

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.outbox import DeliveryState
from dicom_node.records import Task
from tests.support.nodes import Node, node_on, until
from tests.support.pacs import Pacs, pacs
from tests.support.receiving import RawPeer

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.torture.destination import KINDS, SR
from tests.torture.studies import Image, study

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

STILLS = [image for number in range(300) for image in study(31, number) if image.frames == 1]
OUT_OF_RESOURCES = 0xA700


@dataclass
class Modality:
    """Sends a still every half second until it is told to stop: some come during a backup.

    Faster, a slow machine would have the more to do after it.
    """

    port: int
    acknowledged: list[Image] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with RawPeer(self.port) as peer:
            peer.associate()
            for image in STILLS:
                if self.stop.wait(0.5):
                    return
                assert peer.store(image.sop_instance_uid.encode(), image.data) == 0
                self.acknowledged.append(image)


@contextmanager
def sending(port: int) -> Iterator[Modality]:
    modality = Modality(port)
    thread = threading.Thread(target=modality.run)
    thread.start()
    try:
        yield modality
    finally:
        modality.stop.set()
        thread.join()


def delivered(node: Node) -> set[str]:
    with node.outbox() as outbox:
        return {row.sop_instance_uid for row in outbox.rows(DeliveryState.DELIVERED)}


def spoken_of(ds: Dataset) -> set[str]:
    return {
        str(item.ReferencedSOPInstanceUID)
        for group in ds.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in group.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def done(what: subprocess.CompletedProcess[str]) -> str:
    assert what.returncode == 0, what.stdout + what.stderr
    return what.stdout


def backed_up_under_load(node: Node, backup: Path) -> list[Image]:
    """Back a node up and let it die; return what was acknowledged before the backup began."""
    node.start()
    with sending(node.port) as modality:
        until(lambda: len(delivered(node)) >= 3, why=node.log)
        before = list(modality.acknowledged)
        done(node.cli("backup", str(backup)))
        assert len(modality.acknowledged) > len(before), "nothing came meanwhile"
    node.kill()
    shutil.copy(node.layout.data / "pseudonym.key", backup.parent)
    shutil.rmtree(node.layout.data)
    return before


def times_received(peer: Pacs, uids: set[str]) -> Counter[str]:
    return Counter(str(ds.SOPInstanceUID) for ds in peer.received if ds.SOPInstanceUID in uids)


@pytest.fixture
def nodes(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Pacs, Node, Node]]:
    """Return a PACS without room for reports, its node, and a machine that may take its place."""
    with (
        pacs(free_port(), *KINDS) as peer,
        node_on(tmp_path / "here", free_port(), peer.destination, quiet_s=0.5) as node,
        node_on(tmp_path / "there", node.port, peer.destination, quiet_s=0.5) as other,
    ):
        peer.answer = lambda ds: OUT_OF_RESOURCES if ds.SOPClassUID == SR else 0
        for one in (node, other):
            for task in (Task.SEGMENTATION, Task.QUALITY):
                write_bundle(one.folder / "bundles" / f"{task.value}.onnx", task)
        yield peer, node, other


def test_a_node_that_died_goes_on_elsewhere_from_a_backup_taken_under_load(
    nodes: tuple[Pacs, Node, Node], tmp_path: Path
) -> None:
    peer, node, other = nodes
    before = backed_up_under_load(node, tmp_path / "backup")
    key = str(tmp_path / "pseudonym.key")
    done(other.cli("restore", str(tmp_path / "backup"), "--key", key))
    known_delivered = delivered(other)
    assert known_delivered
    was_received = times_received(peer, known_delivered)
    peer.answer = lambda _: 0
    other.start()
    until(lambda: other.finished(*{i.study_instance_uid for i in before}), why=other.log)
    done(other.cli("queue", "retry"))
    with other.outbox() as outbox:
        until(lambda: not outbox.counts()[DeliveryState.WAITING], why=other.log)
    assert other.stop() == 0
    with other.index() as index:
        for image in before:
            kept = index.find(image.sop_instance_uid)
            assert kept is not None, "it was acknowledged before the backup"
            assert kept.path.read_bytes().endswith(image.data)
    assert times_received(peer, known_delivered) == was_received, "something was sent twice"
    reported = [spoken_of(ds) for ds in peer.received if ds.SOPClassUID == SR]
    assert {image.sop_instance_uid for image in before} <= set().union(*reported)

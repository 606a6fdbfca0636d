"""An image that is analysed anew, with a node as its user runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from dicom_node.outbox import DeliveryState
from dicom_node.records import Task
from tests.support.nodes import Node, node_on, send, until
from tests.support.pacs import Pacs, pacs

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
STILL = Path(str(get_testdata_file("examples_palette.dcm")))


@pytest.fixture
def peer(free_port: Callable[[], int]) -> Iterator[Pacs]:
    with pacs(free_port(), SEG, SR) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int], peer: Pacs) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), peer.destination) as configured:
        write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
        write_bundle(tmp_path / "bundles" / "quality.onnx", Task.QUALITY)
        yield configured


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a copy of the still whose pixels are incomplete."""
    ds = dcmread(STILL)
    ds.PixelData = ds.PixelData[:-1000]
    ds.save_as(tmp_path / "damaged.dcm")
    return tmp_path / "damaged.dcm"


def reports(peer: Pacs) -> list[Dataset]:
    found = {str(ds.SOPInstanceUID): ds for ds in peer.received if ds.Modality == "SR"}
    return sorted(found.values(), key=lambda ds: int(ds.InstanceNumber))


def replaced(report: Dataset) -> str:
    series = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed"])
def test_a_whole_copy_that_comes_late_gets_a_second_version(
    node: Node, peer: Pacs, damaged: Path, killed: bool
) -> None:
    node.start()
    assert send([damaged], node.port) == [0]
    until(lambda: reports(peer), why=node.log)
    assert send([STILL], node.port) == [0]
    if killed:
        until(lambda: node.log.count("study complete") == 2, why=node.log)
        node.kill()
        node.start()
    until(lambda: len(reports(peer)) == 2, why=node.log)
    first, second = reports(peer)
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert replaced(second) == first.SOPInstanceUID
    until(lambda: node.finished(str(first.StudyInstanceUID)), why=node.log)
    assert '"revision": 2' in node.cli("status", "--json").stdout
    assert (
        f'"supersedes": "{first.SOPInstanceUID}"'
        in node.cli("queue", "list", "--all", "--json").stdout
    )


def test_what_was_not_sent_yet_of_the_old_version_is_never_sent(
    node: Node, peer: Pacs, damaged: Path
) -> None:
    peer.answer = lambda _: 0xA700
    node.start()
    send([damaged], node.port)
    until(lambda: "not delivered" in node.log, why=node.log)
    send([STILL], node.port)

    def withdrawn() -> bool:
        with node.outbox() as outbox:
            return bool(outbox.counts()[DeliveryState.WITHDRAWN])

    until(withdrawn, why=node.log)
    peer.answer = lambda _: 0x0000
    node.cli("queue", "retry")
    until(lambda: reports(peer), why=node.log)
    [only] = reports(peer)
    assert only.InstanceNumber == 2
    with node.outbox() as outbox:
        rows = {row.sop_instance_uid: row for row in outbox.rows()}
    assert rows[replaced(only)].state is DeliveryState.WITHDRAWN

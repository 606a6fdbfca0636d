import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from highdicom.seg import segread
from pydicom import dcmread
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


def real(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


STILL, CINE = real("examples_rgb_color.dcm"), real("examples_ybr_color.dcm")


def study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def late_image(folder: Path) -> Path:
    """Return another image of the still's study."""
    ds = dcmread(STILL)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID[:60]}.1"
    ds.save_as(folder / "late.dcm")
    return folder / "late.dcm"


def another_study(folder: Path) -> Path:
    """Return the still as an image of a study of its own."""
    ds = dcmread(STILL)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, f"{ds[keyword].value[:60]}.2")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(folder / "another.dcm")
    return folder / "another.dcm"


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


def received(peer: Pacs, modality: str) -> list[str]:
    return [str(ds.SOPInstanceUID) for ds in peer.received if ds.Modality == modality]


def all_delivered(node: Node) -> bool:
    with node.outbox() as outbox:
        counts = outbox.counts()
    return not counts[DeliveryState.WAITING] and bool(counts[DeliveryState.DELIVERED])


def test_a_still_and_a_cine_come_back_as_seg_and_sr_in_their_studies(
    node: Node, peer: Pacs
) -> None:
    node.start()
    assert send([STILL, CINE], node.port) == [0, 0]
    until(lambda: node.finished(study_of(STILL), study_of(CINE)), why=node.log)
    until(lambda: all_delivered(node), why=node.log)
    assert node.stop() == 0
    studies = {str(ds.StudyInstanceUID) for ds in peer.received}
    assert studies == {study_of(STILL), study_of(CINE)}
    assert len(received(peer, "SR")) == 2
    assert len(received(peer, "SEG")) == 2
    with node.outbox() as outbox:
        rows = outbox.rows(DeliveryState.DELIVERED)
    assert len(rows) == 4


def test_the_seg_of_a_cine_points_at_its_frames(node: Node, peer: Pacs) -> None:
    node.start()
    send([CINE], node.port)
    until(lambda: received(peer, "SEG"), why=node.log)
    path = node.layout.results / f"{received(peer, 'SEG')[0]}.dcm"
    planes = segread(path).get_pixels_by_source_frame(
        uid_of(CINE),
        range(1, 31),
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    assert planes.shape[0] == 30
    assert planes.any()


def test_a_bundle_dropped_into_a_running_node_serves_the_next_study(
    tmp_path: Path, free_port: Callable[[], int], peer: Pacs
) -> None:
    made = write_bundle(tmp_path / "made.onnx", Task.QUALITY)
    another = another_study(tmp_path)
    with node_on(tmp_path, free_port(), peer.destination) as node:
        bundles = tmp_path / "bundles"
        # what an export leaves that was killed
        (bundles / "quality.onnx.part").write_bytes(made.read_bytes()[:1000])
        node.start()
        process = node.process
        send([STILL], node.port)
        until(lambda: node.finished(study_of(STILL)), why=node.log)
        with node.outbox() as outbox:
            assert not any(outbox.counts().values())
        made.rename(bundles / "quality.onnx")
        send([another], node.port)
        until(lambda: peer.received, why=node.log)
        until(lambda: all_delivered(node), why=node.log)
        assert {str(ds.StudyInstanceUID) for ds in peer.received} == {study_of(another)}
        assert len(received(peer, "SR")) == 1
        assert node.process is process
        assert "bundle refused" not in node.log


def test_the_same_study_sent_again_is_acknowledged_and_not_answered_twice(
    node: Node, peer: Pacs
) -> None:
    node.start()
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    before = len(peer.received)
    assert send([STILL], node.port) == [0]
    with node.index() as index:
        until(lambda: "duplicates" in node.log, why=node.log)
        assert index.counts()["instances"] == 1
    # another study afterwards shows that the queue moved on
    send([CINE], node.port)
    until(lambda: node.finished(study_of(CINE)) and all_delivered(node), why=node.log)
    assert len(peer.received) == before + 2


def test_a_late_image_opens_its_study_again_and_only_it_is_answered(
    node: Node, peer: Pacs, tmp_path: Path
) -> None:
    late = late_image(tmp_path)
    node.start()
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    send([late], node.port)
    until(lambda: len(peer.received) == 4, why=node.log)
    until(lambda: node.finished(study_of(STILL)), why=node.log)
    with node.index() as index:
        row = index.study(study_of(STILL))
    assert row is not None
    assert row.revision == 2
    assert len(set(received(peer, "SR"))) == 2


def test_after_a_clean_restart_nothing_is_done_twice(node: Node, peer: Pacs) -> None:
    node.start()
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    assert node.stop() == 0
    before = len(peer.received)
    node.start()
    send([CINE], node.port)
    until(lambda: node.finished(study_of(CINE)) and all_delivered(node), why=node.log)
    assert len(peer.received) == before + 2


@pytest.mark.parametrize("after", ["acknowledged", "complete", "analysed"])
def test_kill_9_loses_nothing_that_was_acknowledged(node: Node, peer: Pacs, after: str) -> None:
    node.start()
    assert send([STILL, CINE], node.port) == [0, 0]
    words = {"complete": "study complete", "analysed": '"analysed"'}.get(after)
    if words:
        until(lambda: words in node.log, why=node.log)
    node.kill()
    node.start()
    until(lambda: node.finished(study_of(STILL), study_of(CINE)), why=node.log)
    until(lambda: all_delivered(node), why=node.log)
    assert len(set(received(peer, "SR"))) == 2
    assert len(set(received(peer, "SEG"))) == 2
    for path in (STILL, CINE):
        with node.index() as index:
            instance = index.find(uid_of(path))
        assert instance is not None
        assert dcmread(instance.path).PixelData == dcmread(path).PixelData


def test_a_lost_index_is_rebuilt_and_the_node_goes_on(
    node: Node, peer: Pacs, tmp_path: Path
) -> None:
    late = late_image(tmp_path)
    node.start()
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    node.stop()
    for file in node.layout.data.glob("index.db*"):
        file.unlink()
    node.start()
    until(lambda: node.finished(study_of(STILL)), why=node.log)
    send([late], node.port)
    until(lambda: len(peer.received) == 4, why=node.log)
    assert len(set(received(peer, "SR"))) == 2


def test_a_killed_child_is_started_again(node: Node, peer: Pacs) -> None:
    node.start()
    for child in node.processes()[1:]:
        with suppress(psutil.NoSuchProcess):  # who runs the models leaves with the worker
            child.kill()
    until(lambda: node.log.count("child ended") >= 2, why=node.log)
    until(lambda: node.log.count('"worker ready"') == 2, why=node.log)
    until(lambda: node.log.count('"listening"') == 2, why=node.log)
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    assert peer.received


def test_children_of_a_killed_supervisor_leave_the_port(node: Node) -> None:
    node.start()
    children = node.processes()[1:]
    assert node.process is not None
    node.process.kill()
    node.process.wait()
    node.start()
    until(lambda: not any(child.is_running() for child in children), why=node.log)


def test_a_pacs_that_is_full_gets_its_results_when_it_has_room(node: Node, peer: Pacs) -> None:
    peer.answer = lambda _: 0xA700
    node.start()
    send([STILL], node.port)

    def postponed() -> bool:
        with node.outbox() as outbox:
            rows = outbox.rows(DeliveryState.WAITING)
            return len(rows) == 2 and all(row.status == 0xA700 for row in rows)

    until(postponed, why=node.log)
    assert "0xA700" in node.cli("queue", "list").stdout
    peer.answer = lambda _: 0x0000
    assert "2 deliveries are due now" in node.cli("queue", "retry").stdout
    until(lambda: len(peer.received) == 2, why=node.log)


def test_no_patient_is_in_the_log(node: Node) -> None:
    node.start()
    send([STILL, CINE], node.port)
    until(lambda: all_delivered(node), why=node.log)
    for path in (STILL, CINE):
        ds = dcmread(path, stop_before_pixels=True)
        for value in (str(ds.PatientName), str(ds.PatientID)):
            # whole words: the microseconds of a time may hold any three digits
            assert len(value) < 3 or not re.search(rf"\b{re.escape(value)}\b", node.log)


def test_status_tells_what_came_and_what_became_of_it(node: Node, peer: Pacs) -> None:
    node.start()
    send([STILL], node.port)
    until(lambda: all_delivered(node), why=node.log)
    found = node.cli("status", "--json")
    assert found.returncode == 0, found.stderr
    assert '"deliveries_delivered": 2' in found.stdout
    assert study_of(STILL) in found.stdout
    assert "nothing came for 1 s" in found.stdout


def test_check_passes_and_names_a_destination_that_is_down(node: Node, peer: Pacs) -> None:
    assert node.cli("check").returncode == 0
    text = (node.folder / "node.yaml").read_text()
    port = peer.destination.port
    (node.folder / "node.yaml").write_text(text.replace(str(port), "1"))
    found = node.cli("check")
    assert found.returncode == 1
    assert "check host" in found.stdout


def test_two_nodes_on_one_folder_are_refused(node: Node) -> None:
    node.start()
    second = node.cli("serve")
    assert second.returncode == 2
    assert "in use by another node" in second.stderr

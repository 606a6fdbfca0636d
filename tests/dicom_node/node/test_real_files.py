"""Every real and every malformed file through a running node, from DCMTK and from Orthanc."""

import csv
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from dicom_node.errors import PixelError, UnreadableError
from dicom_node.outbox import DeliveryState
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Task
from tests.support.nodes import Node, node_on, send, until
from tests.support.orthanc import Orthanc, orthanc
from tests.support.receiving import RawPeer, data_set
from tests.support.validators import dciodvfy_errors, pixelmed_errors, without_illegal_uids

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

pytestmark = [
    pytest.mark.peers,
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # the tests themselves read files whose values break the standard
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

GIBIBYTE = 2**30
#: Nested so deeply that Orthanc 1.10.1 itself ends when it reads them.
ENDS_ORTHANC = frozenset({"2026-05-06-Deeply-Nested-Sequence.dcm", "nest_400.dcm"})


@pytest.fixture
def node_and_pacs(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> Iterator[tuple[Node, Orthanc]]:
    port = free_port()
    program = needs_program("Orthanc")
    with (
        orthanc(program, tmp_path / "orthanc", free_port, node_port=port) as pacs,
        node_on(tmp_path, port, pacs.destination) as node,
    ):
        write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
        # PixelMed's validator needs over 6 GB for the SR of a cine with 120 scored frames
        write_bundle(tmp_path / "bundles" / "quality.onnx", Task.QUALITY, every_nth_frame=10)
        node.start()
        yield node, pacs


def dcmsend(program: str, port: int, files: list[Path]) -> None:
    """Send files in their own transfer syntaxes; a file that DCMTK itself refuses is left out."""
    subprocess.run(
        [program, "-dn", "-nh", "-nuc", "-aec", "NODE", "127.0.0.1", str(port), *map(str, files)],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        check=False,
        timeout=300,
    )


def settled(node: Node) -> bool:
    """Whether everything that came was worked on and delivered."""
    node.watch_memory()
    with node.index() as index, node.outbox() as outbox:
        counts = index.counts()
        return (
            counts["studies_open"] == 0
            and not index.unfinished()
            and outbox.counts()[DeliveryState.WAITING] == 0
        )


def decodable(path: Path, sandbox: PixelSandbox) -> bool:
    try:
        facts = read_facts(path)
        return len(list(sandbox.frames(path, range(1, facts.number_of_frames + 1)))) > 0
    except (PixelError, UnreadableError):
        return False


def test_every_real_file_from_dcmtk_and_orthanc_is_kept_answered_and_valid(
    node_and_pacs: tuple[Node, Orthanc],
    test_data: Path,
    needs_program: Callable[[str], str],
) -> None:
    node, pacs = node_and_pacs
    files = sorted((test_data / "dicom_us").glob("*.dcm"))
    dcmsend(needs_program("dcmsend"), node.port, files)
    whole = [file for file in files if has_a_study(file)]
    assert len(whole) >= len(files) - 1, "one of the real files names no study"
    for file in whole:
        pushed = pacs.push(pacs.upload(file))
        assert pushed["FailedInstancesCount"] == 0, file.name
    until(lambda: settled(node), deadline_s=600, why=node.log[-3000:])

    uids = {str(dcmread(f, stop_before_pixels=True).SOPInstanceUID) for f in whole}
    with node.index() as index:
        kept = {uid: index.find(uid) for uid in uids}
    assert all(kept.values()), "every instance that was acknowledged is in the index"

    reports = [path for path in node.layout.results.glob("*.dcm") if modality(path) == "SR"]
    answered = {source for path in reports for source in sources(path)}
    with PixelSandbox(memory_mib=768, timeout_s=60) as sandbox:
        readable = {u for u, one in kept.items() if one and decodable(one.path, sandbox)}
    assert readable <= answered
    assert_valid(node, reports)
    assert_in_the_same_studies(pacs, reports)
    assert node.highest_rss_bytes < GIBIBYTE


def test_a_codec_that_nobody_has_is_reported_as_failed(
    node_and_pacs: tuple[Node, Orthanc], test_data: Path
) -> None:
    node, _ = node_and_pacs
    path = test_data / "dicom_bad" / "US_jpegxl.dcm"
    meta = read_file_meta_info(path)
    sop_class = str(meta.MediaStorageSOPClassUID)
    with RawPeer(node.port) as peer:  # neither DCMTK nor pydicom knows how to send it
        peer.associate(sop_class, str(meta.TransferSyntaxUID))
        uid = str(meta.MediaStorageSOPInstanceUID).encode()
        assert peer.store(uid, data_set(path), sop_class_uid=sop_class) == 0
    until(lambda: list(node.layout.results.glob("*.dcm")), why=node.log)
    [report] = node.layout.results.glob("*.dcm")
    assert "111245" in str(dcmread(report))
    until(lambda: settled(node), why=node.log)
    assert_valid(node, [report])


def test_bad_files_among_good_ones_cost_only_themselves(
    node_and_pacs: tuple[Node, Orthanc], test_data: Path, needs_program: Callable[[str], str]
) -> None:
    node, pacs = node_and_pacs
    with (test_data / "dicom_bad" / "index.csv").open(encoding="utf-8") as file:
        bad = [test_data / "dicom_bad" / row["path"] for row in csv.DictReader(file)]
    good = sorted((test_data / "dicom_us").glob("pydicom__examples_*.dcm"))
    program = needs_program("dcmsend")
    for number, path in enumerate(bad):
        dcmsend(program, node.port, [path])
        if path.name not in ENDS_ORTHANC:
            push_if_taken(pacs, path)
        node.watch_memory()
        if number % 20 == 0:
            send([good[(number // 20) % len(good)]], node.port)
    assert send(good, node.port) == [0] * len(good)
    until(lambda: settled(node), deadline_s=600, why=node.log[-3000:])
    assert node.process is not None
    assert node.process.poll() is None
    assert "child ended" not in node.log
    with node.index() as index:
        assert all(
            index.find(str(dcmread(f, stop_before_pixels=True).SOPInstanceUID)) for f in good
        )
    assert not list((node.layout.inbox / "tmp").iterdir())
    assert not list((node.layout.inbox / "new").glob("*"))
    outside = {p.name for p in node.folder.iterdir()}
    assert outside <= {"data", "bundles", "orthanc", "node.yaml", "log-0"}
    assert node.highest_rss_bytes < GIBIBYTE


def push_if_taken(pacs: Orthanc, path: Path) -> None:
    """Push a file from Orthanc, when Orthanc itself takes it."""
    try:
        pacs.push(pacs.upload(path))
    except OSError:
        return


def has_a_study(path: Path) -> bool:
    return bool(dcmread(path, stop_before_pixels=True).get("StudyInstanceUID"))


def modality(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).Modality)


def sources(report: Path) -> list[str]:
    return [
        str(image.ReferencedSOPInstanceUID)
        for study in dcmread(report).CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    ]


def assert_valid(node: Node, reports: list[Path]) -> None:
    for path in node.layout.results.glob("*.dcm"):
        assert without_illegal_uids(dciodvfy_errors(path)) == [], path.name
    for path, errors in pixelmed_errors(reports).items():
        assert without_illegal_uids(errors) == [], path.name
    for path in reports:
        srread(path)


def assert_in_the_same_studies(pacs: Orthanc, reports: list[Path]) -> None:
    studies = pacs.studies()
    for report in reports:
        together = {str(dcmread(report).SOPInstanceUID), *sources(report)}
        assert any(together <= study for study in studies), report.name

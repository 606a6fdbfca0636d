"""Storage commitment and completion by evidence, with a node as its user runs it."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from dicom_node.index import CommitmentState, StudyRow
from tests.support.nodes import Node, node_on, send, until
from tests.support.orthanc import orthanc
from tests.support.requesters import (
    AVAILABILITY,
    PROCEDURE_STEP,
    Requester,
    reference,
    requester,
)

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

STILL = Path(str(get_testdata_file("examples_rgb_color.dcm")))


@pytest.fixture
def modality(free_port: Callable[[], int]) -> Iterator[Requester]:
    with requester(free_port()) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int], modality: Requester) -> Iterator[Node]:
    callers = [
        {"ae_title": "*", "host": "*"},
        {"ae_title": modality.ae_title, "host": "*", "port": modality.port},
    ]
    with node_on(tmp_path, free_port(), callers=callers) as configured:
        change(configured, study={"quiet_s": 60.0, "evidence_quiet_s": 1.0})
        yield configured


def change(node: Node, **sections: dict[str, Any]) -> None:
    """Change settings of a node that does not run."""
    path = node.folder / "node.yaml"
    tree = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        tree[section] = tree.get(section, {}) | values
    path.write_text(yaml.safe_dump(tree))


def images(folder: Path, count: int) -> list[Path]:
    """Return so many images of one study."""
    study, paths = generate_uid(), []
    for number in range(count):
        ds = dcmread(STILL)
        ds.StudyInstanceUID = study
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = number
        path = folder / f"image-{number}.dcm"
        ds.save_as(path)
        paths.append(path)
    return paths


def headers(paths: list[Path]) -> list[Dataset]:
    return [dcmread(path, stop_before_pixels=True) for path in paths]


def uids(paths: list[Path]) -> set[str]:
    return {str(header.SOPInstanceUID) for header in headers(paths)}


def why(node: Node, paths: list[Path]) -> str:
    """Wait until the study of the images is complete and return why."""
    study = str(headers(paths)[0].StudyInstanceUID)

    def completed() -> str:
        with node.index() as index:
            row = index.study(study)
        return row.reason if row and row.completed_at and row.state == "complete" else ""

    return str(until(completed, why=node.log, deadline_s=30))


def test_what_is_kept_is_committed_to_and_completes_the_study(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    paths = images(tmp_path, 3)
    node.start()
    send(paths, node.port)
    assert modality.request(node, headers(paths), "1.2.3") == 0x0000
    [report] = until(lambda: modality.reports, why=node.log)
    assert (report.event_type, report.transaction_uid) == (1, "1.2.3")
    assert (report.kept, report.failed) == (uids(paths), {})
    assert why(node, paths) == (
        "storage commitment by MODALITY1 listed 3 instances, all are here; nothing came for 1 s"
    )
    assert "all are here" in node.cli("status", "--json").stdout


def test_what_never_came_and_what_has_another_class_is_reported_as_failed(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    paths = images(tmp_path, 3)
    here, other, absent = headers(paths)
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    node.start()
    send(paths[:2], node.port)
    modality.request(node, [here, other, absent])
    [report] = until(lambda: modality.reports, why=node.log)
    assert report.event_type == 2
    assert report.kept == {here.SOPInstanceUID}
    assert report.failed == {other.SOPInstanceUID: 0x0119, absent.SOPInstanceUID: 0x0112}


def test_a_file_that_lost_bytes_is_not_committed_to(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    paths = images(tmp_path, 1)
    node.start()
    send(paths, node.port)

    def kept() -> Path | None:
        with node.index() as index:
            found = index.find(next(iter(uids(paths))))
        return found.path if found and found.path.exists() else None

    path = until(kept, why=node.log)
    path.write_bytes(path.read_bytes()[:-1])
    modality.request(node, headers(paths))
    [report] = until(lambda: modality.reports, why=node.log)
    assert report.failed == dict.fromkeys(uids(paths), 0x0110)


def test_a_report_that_nobody_takes_is_kept_over_kill_9_and_tried_again(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    paths = images(tmp_path, 1)
    modality.answer = lambda: 0x0110
    node.start()
    send(paths, node.port)
    modality.request(node, headers(paths))
    until(lambda: "commitment not reported" in node.log, why=node.log)
    node.kill()
    modality.answer = lambda: 0x0000
    with node.index() as index:
        [row] = index.commitments.latest(9)
    assert (row.state, row.attempts) == (CommitmentState.WAITING, 1)
    # 30 s from now otherwise
    with sqlite3.connect(node.layout.index) as connection:
        connection.execute("UPDATE commitment SET due_us = 0")
    connection.close()
    node.start()
    until(lambda: modality.reports, why=node.log)
    with node.index() as index:
        until(lambda: index.commitments.latest(9)[0].state == "reported", why=node.log)


@pytest.mark.parametrize("after", ["acknowledged", "noticed"])
def test_kill_9_loses_no_acknowledged_request(
    node: Node, modality: Requester, tmp_path: Path, after: str
) -> None:
    paths = images(tmp_path, 2)
    node.start()
    send(paths, node.port)
    modality.request(node, headers(paths))
    if after == "noticed":
        with node.index() as index:
            until(lambda: index.commitments.latest(1), why=node.log)
    node.kill()
    node.start()
    [report, *_] = until(lambda: modality.reports, why=node.log, deadline_s=30)
    assert report.kept == uids(paths)


def test_one_committed_image_does_not_complete_a_study_that_goes_on(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    paths = images(tmp_path, 4)
    node.start()
    for path in paths:  # as some modalities do
        send([path], node.port)
        modality.request(node, headers([path]))
    assert "listed 4 instances, all are here" in why(node, paths)
    with node.index() as index:
        [row] = index.studies(9)
    assert row.revision == 1


def test_a_listed_image_that_is_missing_holds_the_evidence_back(
    node: Node, modality: Requester, tmp_path: Path
) -> None:
    change(node, study={"quiet_s": 4.0})
    paths = images(tmp_path, 2)
    node.start()
    send(paths[:1], node.port)
    modality.request(node, headers(paths))
    assert why(node, paths) == (
        "storage commitment by MODALITY1 listed 2 instances, 1 not here; nothing came for 4 s"
    )


def step(status: str, paths: list[Path]) -> Dataset:
    scheduled, performed, made = Dataset(), Dataset(), Dataset()
    scheduled.StudyInstanceUID = headers(paths)[0].StudyInstanceUID
    performed.ReferencedImageSequence = [reference(header) for header in headers(paths)]
    made.PerformedProcedureStepStatus = status
    made.PerformedSeriesSequence = [] if status == "IN PROGRESS" else [performed]
    if status == "IN PROGRESS":
        made.ScheduledStepAttributesSequence = [scheduled]
    return made


def test_an_ended_procedure_step_completes_its_study(node: Node, tmp_path: Path) -> None:
    paths = images(tmp_path, 2)
    node.start()
    ae = AE("MODALITY1")
    ae.add_requested_context(PROCEDURE_STEP, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", node.port, ae_title="NODE")
    begun, ended = step("IN PROGRESS", paths), step("COMPLETED", paths)
    assert assoc.send_n_create(begun, PROCEDURE_STEP, "1.2.77")[0].Status == 0
    send(paths, node.port)
    assert assoc.send_n_set(ended, PROCEDURE_STEP, "1.2.77")[0].Status == 0
    assoc.release()
    assert why(node, paths) == (
        "the performed procedure step of MODALITY1 names 2 instances, all are here; "
        "nothing came for 1 s"
    )


def test_what_is_said_to_be_available_completes_its_study(node: Node, tmp_path: Path) -> None:
    paths = images(tmp_path, 2)
    node.start()
    send(paths, node.port)
    series, made = Dataset(), Dataset()
    series.ReferencedSOPSequence = [reference(header) for header in headers(paths)]
    for item in series.ReferencedSOPSequence:
        item.InstanceAvailability = "ONLINE"
    made.StudyInstanceUID = headers(paths)[0].StudyInstanceUID
    made.ReferencedSeriesSequence = [series]
    ae = AE("PACS")
    ae.add_requested_context(AVAILABILITY, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", node.port, ae_title="NODE")
    assert assoc.send_n_create(made, AVAILABILITY, "1.2.88")[0].Status == 0
    assoc.release()
    assert "instance availability by PACS listed 2 instances, all are here" in why(node, paths)


def test_a_study_that_never_rests_is_begun_after_the_longest_time(
    node: Node, tmp_path: Path
) -> None:
    change(node, study={"quiet_s": 60.0, "longest_s": 2.0})
    [path] = images(tmp_path, 1)
    study = str(headers([path])[0].StudyInstanceUID)
    node.start()

    def send_another_and_look() -> StudyRow | None:
        image = dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(path)
        assert send([path], node.port) == [0]
        with node.index() as index:
            row = index.study(study)
        return row if row is not None and row.revision == 2 else None

    row = until(send_another_and_look, why=node.log)
    with node.index() as index:
        first, second = index.completions(study)
    for completion in (first, second):
        assert completion.reason == "the first new instance came at least 2 s ago"
    assert second.completed_at - first.completed_at >= timedelta(seconds=2)
    # it went on over both: nothing but the longest time can have completed it
    assert second.evidence["instances"] > first.evidence["instances"] > 1
    assert row.instances >= second.evidence["instances"]


@pytest.mark.peers
def test_orthanc_gets_its_commitment_and_its_failure(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program, port = needs_program("Orthanc"), free_port()
    with orthanc(program, tmp_path / "pacs", free_port, node_port=port) as pacs:
        callers = [{"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port}]
        with node_on(tmp_path, port, callers=callers) as node:
            change(node, study={"quiet_s": 60.0, "evidence_quiet_s": 1.0})
            node.start()
            paths = images(tmp_path, 3)
            pacs.push(*(pacs.upload(path) for path in paths[:2]))
            assert pacs.commit(headers(paths[:2])) == "Success"
            assert "storage commitment by ORTHANC listed 2" in why(node, paths)
            assert pacs.commit(headers(paths)) == "Failure"


@pytest.mark.peers
def test_the_count_of_a_pacs_completes_a_study(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program, port = needs_program("Orthanc"), free_port()
    with (
        orthanc(program, tmp_path / "pacs", free_port, node_port=port) as pacs,
        node_on(tmp_path, port) as node,
    ):
        at = counter(pacs.dicom_port)
        change(node, study={"quiet_s": 60.0, "evidence_quiet_s": 1.0, "count_at": at})
        node.start()
        paths = images(tmp_path, 3)
        pacs.push(*[pacs.upload(path) for path in paths])
        assert why(node, paths) == "ORTHANC counts 3 instances, all are here; nothing came for 1 s"


def test_a_pacs_that_cannot_be_asked_changes_nothing_but_the_log(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with node_on(tmp_path, free_port()) as node:
        study = {"quiet_s": 4.0, "evidence_quiet_s": 1.0, "count_at": counter(free_port())}
        change(node, study=study)
        node.start()
        paths = images(tmp_path, 3)
        send(paths, node.port)
        assert why(node, paths) == "nothing came for 4 s"
        assert node.log.count("not counted") == 1


def counter(port: int) -> dict[str, Any]:
    return {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": port, "timeout_s": 2.0}

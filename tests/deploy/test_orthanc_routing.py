"""A study that Orthanc got is sent to the node when it is stable, and comes back with results."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.phantom.study import StudySpec, ViewSpec, write_study
from dicom_node.records import Task
from dicom_node.sop_classes import ULTRASOUND_IMAGES
from tests.support.nodes import Node, node_on, until
from tests.support.orthanc import Orthanc, orthanc
from tests.support.pacs import Pacs, pacs

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "deploy" / "orthanc" / "routing.lua"
#: its name and AE title in deploy/orthanc/orthanc.json
NODE = "DICOM_NODE"


def shipped() -> dict[str, object]:
    """The configuration as it is shipped, but that a study is stable after a second."""
    settings = json.loads((REPOSITORY / "deploy" / "orthanc" / "orthanc.json").read_text("utf-8"))
    return {**settings, "LuaScripts": [str(SCRIPT)], "StableAge": 1}


def test_the_images_that_are_sent_are_those_that_the_models_see() -> None:
    text = SCRIPT.read_text("utf-8")
    table = text.split("local ULTRASOUND = {")[1].split("}")[0]
    rows = [row.strip() for row in table.strip().splitlines()]
    assert rows == [f"['{uid}'] = true, -- {name}" for uid, name in ULTRASOUND_IMAGES.items()]


def test_the_script_and_the_configuration_call_node_and_mark_alike() -> None:
    settings = shipped()
    text = SCRIPT.read_text("utf-8")
    assert f"NODE = '{NODE}'" in text
    assert settings["DicomModalities"][NODE]["AET"] == NODE  # type: ignore[index]
    [mark] = settings["UserMetadata"]  # type: ignore[misc]
    assert f"MARK = '{mark}'" in text


Routing = Callable[..., AbstractContextManager[Orthanc]]


@pytest.fixture
def routing(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> Routing:
    """Start an Orthanc that routes to a port; a second one goes on with the data of the first."""
    program = needs_program("Orthanc")
    return lambda node_port, **changes: orthanc(
        program,
        tmp_path / "pacs",
        free_port,
        node_port=1,
        others={NODE: node_port},
        configured=shipped() | changes,
    )


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


def study(folder: Path, seed: int) -> tuple[str, list[Path]]:
    """Return a study of a still and a cine in which something is bright."""
    views = (ViewSpec(quality=4), ViewSpec(quality=3, frames=3))
    instances = write_study(
        folder / f"study-{seed}", StudySpec(seed=seed, patient=seed, views=views)
    )
    return instances[0].study_instance_uid, [one.path for one in instances]


def routed_node(folder: Path, port: int, to: Orthanc) -> AbstractContextManager[Node]:
    return node_on(folder / "node", port, to.destination, ae_title=NODE)


def put_bundles(node: Node) -> None:
    write_bundle(node.folder / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
    write_bundle(node.folder / "bundles" / "quality.onnx", Task.QUALITY)


def modalities(peer: Orthanc, study_instance_uid: str) -> Counter[str]:
    """Return how many objects of each modality the PACS has of a study."""
    [found] = peer.post("/tools/lookup", study_instance_uid.encode())
    return Counter(
        peer.get(f"/instances/{one['ID']}/simplified-tags")["Modality"]
        for one in peer.get(f"/studies/{found['ID']}/instances")
    )


def stable_changes(peer: Orthanc) -> int:
    changes = peer.get("/changes?limit=1000")["Changes"]
    return sum(change["ChangeType"] == "StableStudy" for change in changes)


def jobs_done(peer: Orthanc) -> list[str]:
    """Return the end of each sending, nothing while one runs."""
    jobs = peer.get("/jobs?expand")
    assert {job["Type"] for job in jobs} <= {"DicomModalityStore"}
    states = [job["State"] for job in jobs]
    return [] if {"Running", "Pending"} & {*states} else states


WITH_RESULTS = Counter({"US": 2, "SEG": 2, "SR": 2})
WITH_LATE = Counter({"US": 3, "SEG": 3, "SR": 3})


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_stable_study_comes_back_with_its_results_once(
    tmp_path: Path, port: int, routing: Routing
) -> None:
    uid, files = study(tmp_path, 1)
    with routing(port) as running, routed_node(tmp_path, port, running) as node:
        put_bundles(node)
        node.start()
        for file in files:
            running.upload(file)
        until(lambda: modalities(running, uid) == WITH_RESULTS, deadline_s=180, why=node.log)
        # stable again, because of the results: nothing is sent anew
        until(lambda: stable_changes(running) >= 2)
        assert until(lambda: jobs_done(running)) == ["Success"]
        assert node.log.count('"event": "association_accepted"') == 1
        assert modalities(running, uid) == WITH_RESULTS
        # an image that comes late is sent, and it alone
        late = dcmread(files[0])
        late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = f"{late.SOPInstanceUID}.1"
        late.save_as(tmp_path / "late.dcm")
        running.upload(tmp_path / "late.dcm")
        until(lambda: modalities(running, uid) == WITH_LATE, deadline_s=180, why=node.log)
        assert until(lambda: jobs_done(running)) == ["Success", "Success"]
        with node.index() as index:
            assert index.counts()["instances"] == 3
        assert node.stop() == 0


@contextmanager
def receiver(port: int) -> Iterator[Pacs]:
    """Run what stands in the node's place, where only the sending matters."""
    with pacs(port, *ULTRASOUND_IMAGES, ae_title=NODE) as running:
        yield running


def received(running: Pacs) -> list[str]:
    return sorted(str(ds.SOPInstanceUID) for ds in running.received)


def uids(files: list[Path]) -> list[str]:
    return sorted(str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files)


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
def test_what_could_not_be_sent_goes_with_the_next_study_and_nothing_goes_twice(
    tmp_path: Path, port: int, routing: Routing
) -> None:
    _, files = study(tmp_path, 2)
    _, more = study(tmp_path, 3)
    with routing(port) as running:
        for file in files:
            running.upload(file)
        assert until(lambda: jobs_done(running)) == ["Failure"]  # nobody is there
        with receiver(port) as node:
            for file in more:
                running.upload(file)
            until(lambda: received(node) == uids(files + more))
            until(lambda: jobs_done(running))


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
def test_an_image_that_is_refused_holds_up_no_other(
    tmp_path: Path, port: int, routing: Routing
) -> None:
    _, files = study(tmp_path, 4)
    _, more = study(tmp_path, 5)
    refused = uids(files)[0]
    with routing(port) as running, receiver(port) as node:
        node.answer = lambda ds: 0xC000 if ds.SOPInstanceUID == refused else 0x0000
        for file in files:
            running.upload(file)
        assert until(lambda: jobs_done(running)) == ["Failure"]
        for file in more:
            running.upload(file)
        until(lambda: {*received(node)} == {*uids(files + more)} - {refused})
        until(lambda: jobs_done(running))


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
def test_with_a_heartbeat_what_could_not_be_sent_waits_for_no_other_study(
    tmp_path: Path, port: int, routing: Routing
) -> None:
    _, files = study(tmp_path, 7)
    with routing(port, LuaHeartBeatPeriod=1) as running:
        version = str(running.get("/system")["Version"])
        if version != "mainline" and tuple(map(int, version.split("."))) < (1, 11, 1):
            pytest.skip(f"Orthanc {version} has no heartbeat: 1.11.1 or later")
        for file in files:
            running.upload(file)
        until(lambda: jobs_done(running))  # nobody is there
        with receiver(port) as node:
            until(lambda: received(node) == uids(files))
            until(lambda: jobs_done(running))


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
def test_a_study_that_was_not_stable_when_orthanc_was_stopped_is_sent_at_its_start(
    tmp_path: Path, port: int, routing: Routing
) -> None:
    _, files = study(tmp_path, 6)
    with routing(port) as running:
        for file in files:
            running.upload(file)
    with receiver(port) as node, routing(port):
        until(lambda: received(node) == uids(files))

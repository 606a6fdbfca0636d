"""A node whose models run on MLServer."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from dicom_node.records import Task
from tests.support.model_server import ModelServer, model_server
from tests.support.nodes import Node, node_on, send, until
from tests.support.pacs import Pacs, pacs

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

pytestmark = [
    pytest.mark.dimse,
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.timeout(360),
]

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
STILL = Path(str(get_testdata_file("examples_palette.dcm")))
IMAGES = 6


@pytest.fixture
def peer(free_port: Callable[[], int]) -> Iterator[Pacs]:
    with pacs(free_port(), SEG, SR) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with model_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
def node(
    tmp_path: Path, free_port: Callable[[], int], peer: Pacs, server: ModelServer
) -> Iterator[Node]:
    folder = tmp_path / "node"
    folder.mkdir()
    with node_on(folder, free_port(), peer.destination) as configured:
        for task in (Task.SEGMENTATION, Task.QUALITY):
            write_bundle(folder / "bundles" / f"{task.value}.onnx", task)
        with (folder / "node.yaml").open("a") as file:
            file.write(yaml.safe_dump({"infer": {"url": server.url, "threads": 1}}))
        yield configured


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Return images of one study."""
    ds = dcmread(STILL)
    paths = []
    for number in range(IMAGES):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1])
    return paths


def serve(server: ModelServer, node: Node, *, pause_s: float = 0.0) -> None:
    for bundle in sorted((node.folder / "bundles").iterdir()):
        server.put(bundle, pause_s=pause_s)
    server.start()


def sources(peer: Pacs, modality: str) -> list[str]:
    """Return of which image each object of a modality is, sorted."""
    found = [ds for ds in peer.received if ds.Modality == modality]
    return sorted(_source(ds) for ds in found)


def _source(ds: Dataset) -> str:
    series = (
        ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        if ds.Modality == "SR"
        else ds.ReferencedSeriesSequence[0]
    )
    referenced = series.get("ReferencedSOPSequence") or series.ReferencedInstanceSequence
    return str(referenced[0].ReferencedSOPInstanceUID)


def test_results_of_a_model_server_are_delivered_and_name_the_bundle(
    node: Node, server: ModelServer, peer: Pacs
) -> None:
    serve(server, node)
    bundle = node.folder / "bundles" / "quality.onnx"
    checked = json.loads(node.cli("check", "--json").stdout)
    assert {"what": "model server", "fault": "", "found": server.url} in checked
    assert f"{server.url} answers the same" in node.cli("bundles", "check", str(bundle)).stdout
    node.start()
    assert send([STILL], node.port) == [0]
    until(lambda: sources(peer, "SEG") and sources(peer, "SR"), why=node.log)
    uid = str(dcmread(STILL).SOPInstanceUID)
    assert (sources(peer, "SEG"), sources(peer, "SR")) == ([uid], [uid])
    assert node.log.count(f'"provider": "{server.url}"') == 2
    listed = json.loads(node.cli("bundles", "list", "--json").stdout)
    assert [row["runs on"] for row in listed] == [server.url] * 2
    [seg] = [ds for ds in peer.received if ds.Modality == "SEG"]
    [digest] = [row["digest"] for row in listed if row["name"] == "test-segmentation"]
    assert digest in str(seg)


def reports(node: Node) -> int:
    """Return on how many images a report is written."""
    written = node.layout.results.glob("*.dcm")
    return sum(dcmread(path, specific_tags=["Modality"]).Modality == "SR" for path in written)


def test_a_study_whose_server_is_killed_in_the_middle_goes_on_when_it_is_back(
    node: Node, server: ModelServer, peer: Pacs, study: list[Path]
) -> None:
    serve(server, node, pause_s=0.5)
    node.start()
    assert set(send(study, node.port)) == {0}
    # they are stills: their reports wait for the SEG that they share
    until(lambda: reports(node), why=node.log)
    server.kill()
    until(lambda: "job put off" in node.log, why=node.log)
    assert 0 < reports(node) < IMAGES
    assert not sources(peer, "SR")
    [job] = json.loads(node.cli("queue", "list", "--json").stdout)["failed_jobs"]
    assert (job["state"], job["error"]) == ("put off", "ModelServerDownError")
    assert "1 job put off" in node.cli("status").stdout
    checked = {row["what"]: row["fault"] for row in json.loads(node.cli("check", "--json").stdout)}
    assert "UNAVAILABLE" in checked["model server"]
    # neither node nor server remembers the other
    node.kill()
    node.start()
    server.start()
    uids = sorted(str(dcmread(path).SOPInstanceUID) for path in study)
    until(lambda: node.finished(str(dcmread(STILL).StudyInstanceUID)), why=node.log)
    until(lambda: len(sources(peer, "SR")) == IMAGES, why=node.log)
    assert sources(peer, "SR") == uids, "each image once, and no report of a failure besides"
    assert re.findall('"failures": ([0-9]+)', node.log) == ["0"]
    assert json.loads(node.cli("queue", "list", "--json").stdout)["failed_jobs"] == []
    assert all(json.loads(line) for line in node.log.splitlines()), "the log stays JSON"

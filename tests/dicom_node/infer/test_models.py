import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dicom_node import log
from dicom_node.bundle import Bundle, Candidate
from dicom_node.config import InferSettings
from dicom_node.errors import ModelServerDownError
from dicom_node.infer import Models, fingerprint
from dicom_node.records import Geometry, Instance, Task, WeakLabels
from tests.support.oip_server import OipServer, oip_server

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from onnx import GraphProto, numpy_helper

from tests.support.bundles import HEIGHT, WIDTH, mean_is_quality, write_bundle

FRAMES = np.zeros((1, 1, HEIGHT, WIDTH), np.uint8)
LIVER = frozenset({"liver"})
INSTANCE = Instance(
    sop_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
    series_instance_uid="1.2.2",
    study_instance_uid="1.2.1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    file_id="1",
    path=Path("absent"),
    sha256="0" * 64,
    size_bytes=0,
    received_at=datetime(2026, 1, 1, tzinfo=UTC),
)
LABELS = WeakLabels(
    probe=None,
    geometry=Geometry.CURVILINEAR,
    geometry_rule="none",
    groups=LIVER,
    description_mapped=True,
)


def names(models: Models, groups: frozenset[str] = LIVER) -> list[str]:
    image = Candidate(groups=groups, geometry=Geometry.CURVILINEAR)
    return [model.path.name for model in models.chosen(image).serving]


def test_a_bundle_dropped_into_the_folder_is_served(tmp_path: Path) -> None:
    models = Models(tmp_path)
    assert names(models) == []
    write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    assert names(models) == ["a.onnx"]
    (tmp_path / "a.onnx").unlink()
    assert names(models) == []


def test_an_unchanged_bundle_is_not_loaded_again(tmp_path: Path) -> None:
    models = Models(tmp_path)
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    [first] = models.current()
    [second] = models.current()
    assert first is second
    os.utime(path, (1, 1))
    [third] = models.current()
    assert third is not first


def test_a_damaged_bundle_harms_no_other(tmp_path: Path) -> None:
    write_bundle(tmp_path / "good.onnx", Task.QUALITY)
    (tmp_path / "bad.onnx").write_bytes(b"damaged")
    assert names(Models(tmp_path)) == ["good.onnx"]


def test_the_routing_rule_decides(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.onnx", Task.QUALITY, name="a", routing={"groups": ["liver"]})
    write_bundle(tmp_path / "b.onnx", Task.QUALITY, name="b", routing={"geometries": ["linear"]})
    assert names(Models(tmp_path)) == ["a.onnx"]
    assert names(Models(tmp_path), frozenset()) == []


def test_no_folder_serves_no_model(tmp_path: Path) -> None:
    assert names(Models(None)) == []
    assert names(Models(tmp_path / "absent")) == []


def test_the_fingerprint_names_the_set_of_models(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    write_bundle(tmp_path / "b.onnx", Task.SEGMENTATION)
    bundles = Models(tmp_path).current()
    assert fingerprint(bundles) == fingerprint(bundles[::-1])
    assert fingerprint(bundles) != fingerprint(bundles[:1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OipServer]:
    path = write_bundle(tmp_path / "elsewhere.onnx", Task.QUALITY)
    with oip_server() as running:
        running.run = Bundle(path, threads=1).answer
        yield running
    path.unlink()


def reversed_quality() -> GraphProto:
    """Return a network that likes what the usual one does not."""
    graph = mean_is_quality(HEIGHT, WIDTH)
    [steepness] = [one for one in graph.initializer if one.name == "steepness"]
    steepness.CopyFrom(numpy_helper.from_array(np.float32(-100), steepness.name))
    return graph


def on_server(folder: Path, server: OipServer) -> Models:
    return Models(folder, InferSettings(url=server.url, threads=1))


def test_a_bundle_whose_server_is_not_there_yet_is_neither_served_nor_left_out(
    tmp_path: Path, server: OipServer, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure()
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "a.onnx", Task.QUALITY)
    server.ready = False
    models = on_server(tmp_path / "bundles", server)
    assert models.all() == ()
    for _ in range(2):
        with pytest.raises(ModelServerDownError, match="not ready yet"):
            models.for_image(INSTANCE, LABELS)
    assert "not ready yet" in models.refused()["a.onnx"]
    assert "not ready yet" in models.fault()
    assert capfd.readouterr().err.count("bundle waits for its server") == 1
    server.ready = True
    assert models.fault() == ""
    [model] = models.for_image(INSTANCE, LABELS).serving
    assert (model.path.name, model.provider) == ("a.onnx", server.url)
    assert models.refused() == {}
    models.close()


def test_what_was_refused_for_what_its_server_runs_serves_once_that_is_mended(
    tmp_path: Path, server: OipServer
) -> None:
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "a.onnx", Task.QUALITY)
    right = server.run
    server.run = lambda frames: np.zeros((len(frames), 4), np.float32)
    models = on_server(tmp_path / "bundles", server)
    assert "otherwise than this file" in models.refused()["a.onnx"]
    server.run = right
    assert "otherwise than this file" in models.refused()["a.onnx"], "not asked at every image"
    models.close()
    models = Models(
        tmp_path / "bundles", InferSettings(url=server.url, threads=1), refused_again_s=0.0
    )
    server.run = lambda frames: np.zeros((len(frames), 4), np.float32)
    assert names(models) == []
    server.run = right
    assert names(models) == ["a.onnx"]
    models.close()


def test_a_server_that_goes_on_to_the_next_version_is_followed_without_a_failure(
    tmp_path: Path, server: OipServer
) -> None:
    (tmp_path / "bundles").mkdir()
    old = write_bundle(tmp_path / "bundles" / "old.onnx", Task.QUALITY)
    new = write_bundle(
        tmp_path / "bundles" / "new.onnx", Task.QUALITY, graph=reversed_quality(), version="2"
    )
    models = on_server(tmp_path / "bundles", server)
    [first] = models.current()
    assert (first.path, list(models.refused())) == (old, ["new.onnx"])
    server.run, server.version = Bundle(new, threads=1).answer, "2"
    with pytest.raises(ModelServerDownError, match="otherwise than this file"):
        first.answer(FRAMES)
    [second] = models.current()
    assert (second.path, list(models.refused())) == (new, ["old.onnx"])
    assert np.array_equal(second.answer(FRAMES), server.run(FRAMES))
    models.close()

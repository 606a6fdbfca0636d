import os
from pathlib import Path

import pytest

from dicom_node.bundle import Candidate
from dicom_node.infer import Models, fingerprint
from dicom_node.records import Geometry, Task

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

LIVER = frozenset({"liver"})


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

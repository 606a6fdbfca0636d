from pathlib import Path

import numpy as np
import pytest

from dicom_node.bundle import INPUT_NAME, Bundle, Routing
from dicom_node.errors import BundleError
from dicom_node.records import Geometry, Task

pytest.importorskip("onnx", reason="needs the group train: make test installs it")
from tests.support.bundles import HEIGHT, WIDTH, write_bundle


def test_a_sound_bundle_loads_with_its_manifest(tmp_path: Path) -> None:
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION))
    assert bundle.manifest.task is Task.SEGMENTATION
    [segment] = bundle.manifest.segments()
    assert segment.type.meaning == "Liver"
    frame = np.full((1, 1, HEIGHT, WIDTH), 255, np.uint8)
    [output] = bundle.session.run(None, {INPUT_NAME: frame})
    assert output.shape == (1, 2, HEIGHT, WIDTH)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_one_changed_byte_is_noticed(tmp_path: Path, where: float) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError):
        Bundle(path)


def test_a_changed_manifest_is_noticed(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    path.write_bytes(path.read_bytes().replace(b'"by hand"', b'"by magi"'))
    with pytest.raises(BundleError, match="damaged or edited"):
        Bundle(path)


def test_what_is_no_model_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "words.onnx"
    path.write_text("not a model")
    with pytest.raises(BundleError, match=r"words\.onnx"):
        Bundle(path)


def test_an_unknown_key_in_the_manifest_is_named(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, colour="blue")
    with pytest.raises(BundleError, match="colour"):
        Bundle(path)


def test_a_task_that_the_node_does_not_serve_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.CLASSIFICATION)
    with pytest.raises(BundleError, match="a classification model; the node serves segmentation"):
        Bundle(path)


def test_routing_fits_by_group_and_geometry() -> None:
    liver, nothing = frozenset({"liver", "abdomen"}), frozenset[str]()
    assert Routing().fits(nothing, Geometry.UNKNOWN)
    assert Routing(groups=("liver",)).fits(liver, Geometry.UNKNOWN)
    assert not Routing(groups=("thyroid",)).fits(liver, Geometry.UNKNOWN)
    assert not Routing(groups=("liver",)).fits(nothing, Geometry.UNKNOWN)
    assert not Routing(geometries=(Geometry.LINEAR,)).fits(liver, Geometry.CURVILINEAR)

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from dicom_node.bundle import (
    CPU,
    CUDA,
    INPUT_NAME,
    MANIFEST_KEY,
    NO_DIGEST,
    Bundle,
    Routing,
    providers,
)
from dicom_node.errors import BundleError
from dicom_node.records import Geometry, Task

pytest.importorskip("onnx", reason="needs the group train: make test installs it")
import onnx
import onnxruntime as ort
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from tests.support.bundles import (
    HEIGHT,
    WIDTH,
    bright_is_liver,
    mean_is_quality,
    write_bundle,
)
from tests.support.graphs import answers_three_channels


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


def refusal(path: Path) -> str:
    """Return the sentence with which a bundle is refused."""
    with pytest.raises(BundleError) as refused:
        Bundle(path)
    said = str(refused.value)
    assert said.startswith(f"{path.name}: ")
    assert "\n" not in said
    return said


def test_a_wrong_digest_is_told_before_the_graph_is_looked_at(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, opset=99)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"by hand"', b'"by magi"'))
    said = refusal(path)
    assert "its bytes do not fit its digest" in said
    assert "copy or export it again" in said


def test_a_manifest_without_a_digest_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    model = onnx.load(path)
    [text] = [entry.value for entry in model.metadata_props]
    text = text.replace(Bundle(path).manifest.digest, NO_DIGEST).replace("digest", "metrics", 1)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: text.replace(f'"{NO_DIGEST}"', "{}")})
    onnx.save(model, path)
    assert "has no digest; export it again" in refusal(path)


def test_an_opset_that_is_too_new_is_named_with_the_newest_that_is_known(tmp_path: Path) -> None:
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.QUALITY, opset=99))
    assert f"is of opset 99, onnxruntime {ort.__version__} knows none above " in said
    assert "export it with that opset, or install a newer onnxruntime" in said


def test_an_operator_that_onnxruntime_does_not_know_is_named(tmp_path: Path) -> None:
    graph = mean_is_quality(HEIGHT, WIDTH)
    graph.node[-1].op_type = "Sigmund"
    assert "Sigmund" in refusal(write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=graph))


def test_another_input_size_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    graph = bright_is_liver(32, 48)
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION, graph=graph))
    assert "takes frames uint8 (n, 1, 32, 48)" in said
    assert f"needs uint8 (n, 1, {HEIGHT}, {WIDTH}); export it again" in said


def test_an_input_that_is_not_of_bytes_is_refused(tmp_path: Path) -> None:
    graph = mean_is_quality(HEIGHT, WIDTH)
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=graph))
    assert "takes frames float (n, 1, " in said


def test_a_graph_for_one_frame_at_a_time_is_refused(tmp_path: Path) -> None:
    graph = mean_is_quality(HEIGHT, WIDTH)
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=graph))
    assert f"takes frames uint8 (1, 1, {HEIGHT}, {WIDTH})" in said


@pytest.mark.parametrize(
    ("task", "other", "gives"),
    [
        (Task.SEGMENTATION, mean_is_quality, "gives float (n, 4)"),
        (Task.QUALITY, bright_is_liver, f"gives float (n, 2, {HEIGHT}, {WIDTH})"),
    ],
)
def test_the_answer_of_another_task_is_refused(
    tmp_path: Path, task: Task, other: Callable[[int, int], onnx.GraphProto], gives: str
) -> None:
    graph = other(HEIGHT, WIDTH)
    assert gives in refusal(write_bundle(tmp_path / "a.onnx", task, graph=graph))


def test_a_shape_that_the_graph_leaves_open_is_found_out_by_a_trial(tmp_path: Path) -> None:
    graph = answers_three_channels(HEIGHT, WIDTH)
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION, graph=graph))
    assert f"gives for 2 frames (2, 3, {HEIGHT}, {WIDTH})" in said


def test_what_is_no_probability_is_refused(tmp_path: Path) -> None:
    graph = mean_is_quality(HEIGHT, WIDTH)
    graph.node[-1].op_type = "Identity"
    said = refusal(write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=graph))
    assert "with -40 to -5, which are no probabilities" in said


def test_labels_that_leave_a_channel_without_a_name_are_refused(tmp_path: Path) -> None:
    labels = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION)).manifest.labels
    second = [labels[0].model_copy(update={"value": 2}).model_dump()]
    said = refusal(write_bundle(tmp_path / "b.onnx", Task.SEGMENTATION, labels=second))
    assert "labels have the values [2]" in said


class FailingGpu:
    """An onnxruntime session whose GPU fails in the middle of its work."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._providers = [CUDA, CPU]

    def get_providers(self) -> list[str]:
        return self._providers

    def set_providers(self, providers: list[str]) -> None:
        self._providers = providers

    def run(self, *arguments: Any) -> list[np.ndarray[Any, Any]]:
        if self._providers[0] == CUDA:
            raise ort_state.RuntimeException("CUDA failure 2: out of memory")
        return cast("list[np.ndarray[Any, Any]]", self._session.run(*arguments))


def test_a_gpu_that_fails_hands_the_model_to_the_cpu(tmp_path: Path) -> None:
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.QUALITY))
    frames = np.full((1, 1, HEIGHT, WIDTH), 99, np.uint8)
    expected = bundle.answer(frames)
    bundle.session = FailingGpu(bundle.session)
    assert bundle.provider == CUDA
    assert np.array_equal(bundle.answer(frames), expected)
    assert bundle.provider == CPU


def test_without_a_driver_a_model_runs_on_the_cpu(tmp_path: Path) -> None:
    if providers() != [CPU]:
        pytest.skip("this machine has a CUDA driver")
    assert Bundle(write_bundle(tmp_path / "a.onnx", Task.QUALITY)).provider == CPU


@pytest.mark.skipif(sys.platform != "linux", reason="the driver is called libcuda.so.1 on Linux")
def test_a_driver_that_does_not_work_leaves_the_model_to_the_cpu(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    if providers() != [CPU] or CUDA not in ort.get_available_providers():
        pytest.skip("needs onnxruntime-gpu on a machine without a CUDA driver")
    # any library will do for a driver that cannot be used
    [anything, *_] = (Path(ort.__file__).parent / "capi").glob("*providers_shared.so")
    (tmp_path / "libcuda.so.1").symlink_to(anything)
    asked = (
        "import sys; from pathlib import Path; from dicom_node.bundle import Bundle, providers\n"
        "print(providers()[0], Bundle(Path(sys.argv[1])).provider)"
    )
    found = subprocess.run(
        [sys.executable, "-c", asked, str(path)],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines()[-1] == f"{CUDA} {CPU}"

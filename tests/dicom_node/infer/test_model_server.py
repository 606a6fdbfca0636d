"""Models on MLServer, a server that others wrote."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, ModelServerDownError
from dicom_node.infer.host import Host
from dicom_node.infer.remote import RemoteHost
from dicom_node.records import Task
from tests.support.model_server import ModelServer, model_server
from tests.support.nodes import until

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from onnx import numpy_helper

from tests.support.bundles import HEIGHT, WIDTH, mean_is_quality, write_bundle

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(240)]

FRAMES = np.random.default_rng(1).integers(0, 256, (3, 1, HEIGHT, WIDTH), np.uint8)


def a_little_stricter(path: Path) -> Path:
    """Write a network of the same shapes and types that scores a little lower."""
    graph = mean_is_quality(HEIGHT, WIDTH)
    [old] = [one for one in graph.initializer if one.name == "thresholds"]
    old.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(old) * np.float32(1.05), old.name))
    return write_bundle(path, Task.QUALITY, graph=graph)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "segmentation": write_bundle(folder / "segmentation.onnx", Task.SEGMENTATION),
        "quality": write_bundle(folder / "quality.onnx", Task.QUALITY),
        "other": write_bundle(folder / "other.onnx", Task.QUALITY, name="other"),
        "versioned": write_bundle(folder / "versioned.onnx", Task.QUALITY, name="versioned"),
        "absent": write_bundle(folder / "absent.onnx", Task.QUALITY, name="absent"),
    }


@pytest.fixture(scope="module")
def server(
    bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelServer]:
    with model_server(tmp_path_factory.mktemp("server")) as server:
        server.put(bundles["segmentation"])
        server.put(bundles["quality"])
        server.put(a_little_stricter(bundles["other"].with_name("wrong.onnx")), name="other")
        server.put(bundles["versioned"], version="1")
        server.start()
        yield server


@pytest.fixture
def host(server: ModelServer) -> Iterator[RemoteHost]:
    with closing(RemoteHost(InferSettings(url=server.url, threads=1), server.url)) as host:
        yield host


@pytest.mark.parametrize("name", ["segmentation", "quality", "versioned"])
def test_the_server_answers_what_this_node_answers(
    host: RemoteHost, bundles: dict[str, Path], name: str
) -> None:
    with closing(Host(InferSettings(threads=1))) as local:
        here = local.load(bundles[name])
        there = host.load(bundles[name])
        assert there.manifest == here.manifest
        digest = here.manifest.digest
        expected = local.answer(bundles[name], digest, FRAMES)
    answer = host.answer(bundles[name], digest, FRAMES)
    assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)
    assert np.abs(answer - expected).max() < 1e-5


def test_a_wrong_model_behind_the_right_name_is_refused(
    host: RemoteHost, bundles: dict[str, Path]
) -> None:
    with pytest.raises(BundleError, match=r"other\.onnx: .* otherwise than this file"):
        host.load(bundles["other"])


def test_a_model_that_the_server_does_not_have_is_waited_for(
    host: RemoteHost, bundles: dict[str, Path]
) -> None:
    with pytest.raises(ModelServerDownError, match=r"absent\.onnx: .* not found.* studies wait"):
        host.load(bundles["absent"])


def test_a_server_that_is_killed_is_down_until_it_is_back(
    host: RemoteHost, server: ModelServer, bundles: dict[str, Path]
) -> None:
    path = bundles["quality"]
    digest = host.load(path).manifest.digest
    before = host.answer(path, digest, FRAMES)
    server.kill()
    with pytest.raises(ModelServerDownError, match="UNAVAILABLE"):
        host.answer(path, digest, FRAMES)
    assert "UNAVAILABLE" in host.fault()
    server.start()
    until(lambda: host.fault() == "")
    assert np.array_equal(host.answer(path, digest, FRAMES), before)

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from dicom_node.bundle import Bundle
from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, InferenceError, ModelServerDownError, TemporaryError
from dicom_node.infer.analyse import BATCH
from dicom_node.infer.remote import RemoteHost, trial_frames
from dicom_node.records import Task
from tests.support.oip_server import Frames, OipServer, oip_server

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import HEIGHT, WIDTH, write_bundle

FRAMES = np.full((2, 1, HEIGHT, WIDTH), 9, np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "a.onnx", Task.QUALITY)


@pytest.fixture
def server(path: Path) -> Iterator[OipServer]:
    """Run a server that has the bundle's network."""
    with oip_server() as running:
        running.run = Bundle(path, threads=1).answer
        running.inputs = (("frames", "UINT8", (-1, 1, HEIGHT, WIDTH)),)
        running.outputs = (("anything", "FP32", (-1, 4)),)
        yield running


def settings(server: OipServer, timeout_s: float = 20.0) -> InferSettings:
    return InferSettings(url=server.url, threads=1, timeout_s=timeout_s)


@pytest.fixture
def host(server: OipServer) -> Iterator[RemoteHost]:
    host = RemoteHost(settings(server), server.url)
    yield host
    host.close()


def answer(host: RemoteHost, path: Path) -> np.ndarray:
    return host.answer(path, Bundle(path, threads=1).manifest.digest, FRAMES)


def another(frames: Frames) -> np.ndarray:
    """Answer as another network does: one score always."""
    return np.tile(np.array([[0.9, 0.8, 0.2, 0.1]], np.float32), (len(frames), 1))


def test_what_a_model_is_tried_with_is_fixed_and_as_much_as_it_ever_gets(path: Path) -> None:
    manifest = Bundle(path, threads=1).manifest
    frames = trial_frames(manifest)
    assert frames.shape == (BATCH, 1, HEIGHT, WIDTH)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, trial_frames(manifest))


def test_a_bundle_that_the_server_runs_is_taken_and_no_process_of_this_machine_is_kept(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    loaded = host.load(path)
    assert (loaded.manifest.name, loaded.provider) == ("test-quality", server.url)
    assert host.pid is None
    before = len(server.asked)
    assert np.array_equal(answer(host, path), server.run(FRAMES))
    assert len(server.asked) == before + 1, "it is not tried before each answer"


@pytest.mark.parametrize("declares", [True, False])
def test_another_network_under_the_right_name_is_refused(
    host: RemoteHost, server: OipServer, path: Path, declares: bool
) -> None:
    server.run = another
    if not declares:
        server.inputs = server.outputs = ()
    with pytest.raises(BundleError, match=r"a\.onnx: grpc://.* as test-quality it is 0\.\d+ off"):
        host.load(path)


def test_an_answer_in_half_precision_is_taken_and_no_number_is_not(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    right = server.run
    server.run = lambda frames: right(frames).astype(np.float16).astype(np.float32)
    host.load(path)
    server.run = lambda frames: np.full((len(frames), 4), np.nan, np.float32)
    with pytest.raises(BundleError, match=r"it is nan off, 0\.01 is the limit"):
        host.load(path)


def test_an_answer_of_another_shape_is_refused(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    server.run = lambda frames: np.zeros((len(frames), 5), np.float32)
    with pytest.raises(BundleError, match=r"gives \[\(4, 5\)\] instead of \(4, 4\)"):
        host.load(path)


def test_what_a_server_declares_must_be_what_the_bundle_takes_and_gives(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    server.inputs = (("frames", "FP32", (-1, 3, 224, 224)),)
    with pytest.raises(
        BundleError, match=r"takes frames float \(n, 3, 224, 224\), but .* load this file there"
    ):
        host.load(path)
    server.inputs = (("pixels", "UINT8", (-1, 1, HEIGHT, WIDTH)),)
    with pytest.raises(BundleError, match=r"takes pixels, but .* needs frames"):
        host.load(path)


@pytest.mark.parametrize("known", [("", "1"), ("",), ("1",)])
def test_the_version_of_the_manifest_is_asked_for_where_the_server_knows_it(
    host: RemoteHost, server: OipServer, path: Path, known: tuple[str, ...]
) -> None:
    server.versions = known
    host.load(path)
    assert server.asked[-1].model_version == ("1" if "1" in known else "")


def test_a_server_that_is_down_starting_or_without_the_model_may_have_it_later(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    server.models = ()
    with pytest.raises(ModelServerDownError, match=r"a\.onnx: .*load this file there as test-q"):
        host.load(path)
    server.ready = False
    with pytest.raises(ModelServerDownError, match="up and not ready yet"):
        host.load(path)
    assert "not ready yet" in host.fault()
    server.ready, server.models = True, ("test-quality",)
    assert host.fault() == ""
    host.load(path)


def test_a_model_that_is_gone_while_it_is_used_is_waited_for_and_tried_when_it_is_back(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    host.load(path)
    server.models = ()
    with pytest.raises(ModelServerDownError, match="NOT_FOUND"):
        answer(host, path)
    server.models = ("test-quality",)
    right, server.run = server.run, another
    with pytest.raises(ModelServerDownError, match="answers trial frames otherwise than this file"):
        answer(host, path)
    assert (host.doubted(), host.doubted()) == ({path}, set())
    server.run = right
    assert np.array_equal(answer(host, path), right(FRAMES))


def test_another_version_is_tried_before_its_answer_is_believed(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    host.load(path)
    server.version = "2"
    assert np.array_equal(answer(host, path), server.run(FRAMES))
    server.version, server.run = "3", another
    with pytest.raises(ModelServerDownError, match="otherwise than this file"):
        answer(host, path)


def test_a_model_that_is_used_is_tried_again_after_a_while(server: OipServer, path: Path) -> None:
    host = RemoteHost(settings(server), server.url, check_s=0.0)
    host.load(path)
    server.run = another
    with pytest.raises(ModelServerDownError, match="otherwise than this file"):
        answer(host, path)
    host.close()


def test_an_image_over_which_the_model_fails_is_told_from_a_server_that_fails(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    host.load(path)
    right, internal = server.run, grpc.StatusCode.INTERNAL

    def chokes(frames: Frames) -> np.ndarray:
        if len(frames) == len(FRAMES):
            raise ValueError
        return right(frames)

    server.run = chokes
    with pytest.raises(InferenceError, match="UNKNOWN"):
        answer(host, path)
    server.run = right
    server.failures = [internal]
    assert np.array_equal(answer(host, path), right(FRAMES))
    server.failures = [internal, internal]
    with pytest.raises(ModelServerDownError, match=r"trial frames: .*INTERNAL"):
        answer(host, path)


def test_an_image_over_which_the_model_is_silent_is_told_from_a_server_that_is(
    server: OipServer, path: Path
) -> None:
    right, goes_on = server.run, threading.Event()
    host = RemoteHost(settings(server, timeout_s=1.0), server.url)
    host.load(path)

    def hangs(frames: Frames) -> np.ndarray:
        if len(frames) == len(FRAMES):
            goes_on.wait(20)
        return right(frames)

    server.run = hangs
    with pytest.raises(InferenceError, match=r"no answer within 1 s, twice.*infer\.timeout_s"):
        answer(host, path)
    server.run = lambda frames: goes_on.wait(20) and frames
    with pytest.raises(ModelServerDownError, match="DEADLINE_EXCEEDED") as caught:
        answer(host, path)
    assert type(caught.value) is ModelServerDownError, "jobs are known by this name"
    goes_on.set()
    host.close()


def test_another_bundle_under_the_same_name_is_never_taken_for_the_first(
    host: RemoteHost, path: Path
) -> None:
    first = host.load(path).manifest.digest
    write_bundle(path, Task.QUALITY, version="2")
    host.forget(path)
    with pytest.raises(TemporaryError, match="changed while it was used"):
        host.answer(path, first, FRAMES)


def test_a_damaged_bundle_is_refused_as_everywhere(host: RemoteHost, path: Path) -> None:
    path.write_bytes(b"damaged")
    with pytest.raises(BundleError, match="no ONNX model"):
        host.load(path)
    assert host.pid is None


def test_a_study_that_still_runs_when_the_node_stops_gets_its_answer(
    host: RemoteHost, server: OipServer, path: Path
) -> None:
    host.load(path)
    host.close()
    assert np.array_equal(answer(host, path), server.run(FRAMES))

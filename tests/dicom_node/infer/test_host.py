import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dicom_node.bundle import CPU, Bundle
from dicom_node.config import InferSettings
from dicom_node.errors import BundleError, InferenceError, TemporaryError
from dicom_node.infer.host import Host
from dicom_node.records import Task

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import HEIGHT, WIDTH, write_bundle
from tests.support.graphs import eats_memory, hangs

BLACK = np.zeros((1, 1, HEIGHT, WIDTH), np.uint8)
WHITE = np.full((1, 1, HEIGHT, WIDTH), 255, np.uint8)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(InferSettings(threads=1, memory_mib=1024, timeout_s=60))
    yield host
    host.close()


def loaded(host: Host, path: Path) -> str:
    """Load a bundle, return its digest."""
    return host.load(path).manifest.digest


def still_works(host: Host, path: Path, digest: str) -> None:
    assert host.answer(path, digest, WHITE).shape == (1, 4)


def test_the_process_answers_what_the_bundle_answers_here(host: Host, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION)
    here = Bundle(path, threads=1)
    there = host.load(path)
    assert (there.manifest, there.provider) == (here.manifest, CPU)
    frames = np.arange(3 * HEIGHT * WIDTH, dtype=np.uint8).reshape(3, 1, HEIGHT, WIDTH)
    answer = host.answer(path, there.manifest.digest, frames)
    assert np.array_equal(answer, here.answer(frames))


def test_a_bundle_that_is_refused_is_refused_in_the_same_words(host: Host, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, opset=99)
    with pytest.raises(BundleError) as here:
        Bundle(path)
    with pytest.raises(BundleError) as there:
        host.load(path)
    assert str(there.value) == str(here.value)


def test_a_model_that_hangs_over_an_image_is_stopped_and_the_next_image_answered(
    tmp_path: Path,
) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=hangs(HEIGHT, WIDTH))
    host = Host(InferSettings(threads=1, timeout_s=5))
    digest = loaded(host, path)
    hanging = host.pid
    with pytest.raises(InferenceError, match=r"no answer within 5 s.*raise infer\.timeout_s"):
        host.answer(path, digest, WHITE)
    assert hanging is not None
    assert not psutil.pid_exists(hanging)
    assert host.answer(path, digest, BLACK).shape == (1, 4)
    assert host.pid != hanging
    host.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the limit on Linux only")
def test_a_model_that_eats_memory_over_an_image_fails_and_the_next_image_is_answered(
    host: Host, tmp_path: Path
) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=eats_memory(HEIGHT, WIDTH))
    digest = loaded(host, path)
    with pytest.raises(InferenceError, match=r"than infer\.memory_mib allows \(1024 MiB\)"):
        host.answer(path, digest, WHITE)
    assert host.answer(path, digest, BLACK).shape == (1, 4)


def test_a_process_that_died_is_replaced(host: Host, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    digest = loaded(host, path)
    still_works(host, path, digest)
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    psutil.Process(host.pid).wait(10)
    still_works(host, path, digest)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_service_fails_no_image(
    host: Host, tmp_path: Path, number: signal.Signals
) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    digest = loaded(host, path)
    before = host.pid
    assert before is not None
    os.kill(before, number)
    still_works(host, path, digest)
    assert host.pid == before


def test_a_process_that_dies_over_an_image_is_told_and_replaced(tmp_path: Path) -> None:
    host = Host(InferSettings(threads=1, timeout_s=30))
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=hangs(HEIGHT, WIDTH))
    digest = loaded(host, path)
    assert host.pid is not None
    killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -9 {host.pid}"])
    with pytest.raises(InferenceError, match=r"died over this image \(status -9\)"):
        host.answer(path, digest, WHITE)
    killer.wait()
    assert host.answer(path, digest, BLACK).shape == (1, 4)
    host.close()


def test_a_model_that_hangs_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY, graph=hangs(HEIGHT, WIDTH))
    asking = (
        "import sys, numpy; from pathlib import Path\n"
        "from dicom_node.config import InferSettings; from dicom_node.infer.host import Host\n"
        "host = Host(InferSettings(threads=1)); path = Path(sys.argv[1])\n"
        "digest = host.load(path).manifest.digest; print(host.pid, flush=True)\n"
        f"host.answer(path, digest, numpy.full((1, 1, {HEIGHT}, {WIDTH}), 255, numpy.uint8))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", asking, str(path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(10)


def test_another_bundle_under_the_same_name_is_never_taken_for_the_first(
    host: Host, tmp_path: Path
) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    digest = loaded(host, path)
    write_bundle(path, Task.QUALITY, version="2")
    host.close()
    with pytest.raises(TemporaryError, match="changed while it was used"):
        host.answer(path, digest, WHITE)


def test_a_bundle_that_was_forgotten_is_loaded_when_it_is_asked(host: Host, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.onnx", Task.QUALITY)
    digest = loaded(host, path)
    host.forget(path)
    still_works(host, path, digest)

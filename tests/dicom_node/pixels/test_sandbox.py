import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom.encaps import encapsulate

from dicom_node.errors import NodeError, PixelError, TemporaryError
from dicom_node.pixels.decode import decode
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from tests.support.frames import changed, pydicom_file, saved, ultrasound

pytestmark = pytest.mark.alone

GOOD = pydicom_file("examples_ybr_color.dcm")
MEBIBYTE = 2**20


@pytest.fixture
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=512, timeout_s=30) as sandbox:
        yield sandbox


def _still_works(sandbox: PixelSandbox) -> None:
    ((number, frame),) = sandbox.frames(GOOD, [7])
    assert (number, frame.shape) == (7, (240, 320))


def test_the_sandbox_gives_what_decoding_gives(sandbox: PixelSandbox) -> None:
    here = dict(decode(GOOD, [1, 2, 30]))
    there = dict(sandbox.frames(GOOD, [1, 2, 30]))
    assert list(there) == [1, 2, 30]
    assert all(np.array_equal(here[number], there[number]) for number in here)


def test_two_callers_at_once_are_given_their_own_pictures(
    sandbox: PixelSandbox, tmp_path: Path
) -> None:
    files = [
        saved(ultrasound(np.full((1, 64, 64), grey, np.uint8)), tmp_path / f"{grey}.dcm")
        for grey in (50, 200)
    ]

    def seen(path: Path) -> set[int]:
        return {int(frame.max()) for _ in range(40) for _, frame in sandbox.frames(path, [1])}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(seen, files)) == [{50}, {200}]


def test_who_never_fetches_his_frames_is_not_waited_for_without_end() -> None:
    with PixelSandbox(memory_mib=512, timeout_s=5) as sandbox:
        begun = sandbox.frames(GOOD, [1, 2, 3])
        next(begun)
        with pytest.raises(TemporaryError, match="busy with another image"):
            list(sandbox.frames(GOOD, [1]))
        assert [number for number, _ in begun] == [2, 3]
        _still_works(sandbox)


def test_one_process_serves_many_files_and_leaves_with_the_context() -> None:
    with PixelSandbox(memory_mib=512, timeout_s=30) as sandbox:
        _still_works(sandbox)
        first = sandbox.pid
        _still_works(sandbox)
        assert sandbox.pid == first
    assert first is not None
    assert not psutil.pid_exists(first)


def test_a_file_that_cannot_be_decoded_says_why(sandbox: PixelSandbox, tmp_path: Path) -> None:
    path = changed("examples_rgb_color.dcm", tmp_path / "a.dcm", PixelData=b"\0\0")
    with pytest.raises(PixelError, match="holds 2 bytes"):
        list(sandbox.frames(path, [1]))
    _still_works(sandbox)
    with pytest.raises(PixelError, match="FileNotFoundError"):
        list(sandbox.frames(tmp_path / "none.dcm", [1]))
    _still_works(sandbox)


def test_an_abandoned_cine_does_not_leak_into_the_next_file(sandbox: PixelSandbox) -> None:
    for number, _ in sandbox.frames(GOOD, range(1, 31)):
        if number == 3:
            break
    _still_works(sandbox)


def test_what_is_asked_for_next_is_begun_before_it_is_asked_for(
    sandbox: PixelSandbox, tmp_path: Path
) -> None:
    pipe = tmp_path / "a.dcm"
    os.mkfifo(pipe)
    [(number, _)] = sandbox.frames(GOOD, [7], then=(pipe, [1]))
    assert number == 7
    first = sandbox.pid
    with ThreadPoolExecutor(1) as pool:
        # who opens a pipe to write waits until somebody reads
        opened = pool.submit(lambda: pipe.open("wb").close())
        try:
            opened.result(20)
        finally:
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    with pytest.raises(PixelError):
        list(sandbox.frames(pipe, [1]))
    _still_works(sandbox)
    assert sandbox.pid == first


def test_frames_that_were_asked_for_ahead_come_as_they_would_otherwise(
    sandbox: PixelSandbox, tmp_path: Path
) -> None:
    broken = changed("examples_rgb_color.dcm", tmp_path / "a.dcm", PixelData=b"\0\0")
    steps = [(GOOD, [1, 2]), (broken, [1]), (GOOD, [30]), (GOOD, [2])]
    found: list[int] = []
    for step, then in pairwise([*steps, None]):
        assert step is not None
        try:
            for number, frame in sandbox.frames(*step, then=then):
                assert np.array_equal(frame, dict(decode(GOOD, [number]))[number])
                found.append(number)
        except PixelError as exc:
            assert "holds 2 bytes" in str(exc)
            found.append(0)
    assert found == [1, 2, 0, 30, 2]


def test_something_else_may_be_asked_for_than_what_was_said(
    sandbox: PixelSandbox, tmp_path: Path
) -> None:
    grey = saved(ultrasound(np.zeros((1, 8, 8), np.uint8)), tmp_path / "a.dcm")
    list(sandbox.frames(GOOD, [1], then=(GOOD, [2])))
    _still_works(sandbox)
    list(sandbox.frames(GOOD, [1], then=(grey, [1])))
    assert [values.dtype for _, values in sandbox.stored_values(grey, [1])] == [np.int32]
    _still_works(sandbox)


def test_a_decoder_that_died_over_a_file_is_asked_anew_for_what_comes_next(
    sandbox: PixelSandbox,
) -> None:
    list(sandbox.frames(GOOD, [1], then=(GOOD, [7])))
    assert sandbox.pid is not None
    os.kill(sandbox.pid, signal.SIGKILL)
    psutil.Process(sandbox.pid).wait(10)
    _still_works(sandbox)


def test_a_killed_decoder_is_replaced(sandbox: PixelSandbox) -> None:
    _still_works(sandbox)
    assert sandbox.pid is not None
    os.kill(sandbox.pid, signal.SIGKILL)
    psutil.Process(sandbox.pid).wait(10)
    _still_works(sandbox)


def test_a_decoder_that_dies_over_a_file_is_reported_and_replaced(sandbox: PixelSandbox) -> None:
    frames = sandbox.frames(GOOD, range(1, 31))
    next(frames)
    assert sandbox.pid is not None
    os.kill(sandbox.pid, signal.SIGKILL)
    with pytest.raises(PixelError, match="died"):
        list(frames)
    _still_works(sandbox)


@pytest.mark.slow
def test_a_decoder_that_hangs_is_stopped_and_replaced() -> None:
    with PixelSandbox(memory_mib=512, timeout_s=2) as sandbox:
        _still_works(sandbox)
        assert sandbox.pid is not None
        hanging = sandbox.pid
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(PixelError, match="within 2 s"):
            list(sandbox.frames(GOOD, [1]))
        assert not psutil.pid_exists(hanging)
        _still_works(sandbox)


def test_an_image_larger_than_the_limit_is_refused_and_memory_stays_bounded(tmp_path: Path) -> None:
    # a forged RLE header: nothing in the codestream states its size
    rle = b"\x01\0\0\0\x40\0\0\0" + b"\0" * 56 + b"\x81\0" * 64
    data_set = ultrasound(np.zeros((1, 20, 20), np.uint8), Rows=65535, Columns=65535)
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    data_set.PixelData = encapsulate([rle])
    path = saved(data_set, tmp_path / "a.dcm")
    with PixelSandbox(memory_mib=256, timeout_s=60) as sandbox:
        with pytest.raises(PixelError):
            list(sandbox.frames(path, [1]))
        _still_works(sandbox)
        assert sandbox.pid is not None
        assert psutil.Process(sandbox.pid).memory_info().rss < 256 * MEBIBYTE


def test_a_long_cine_needs_the_memory_of_one_frame(tmp_path: Path) -> None:
    cine = np.zeros((120, 1000, 1000), np.uint8)
    path = saved(ultrasound(cine), tmp_path / "a.dcm")
    with PixelSandbox(memory_mib=512, timeout_s=60) as sandbox:
        peak = 0
        for _ in sandbox.frames(path, range(1, 121)):
            assert sandbox.pid is not None
            peak = max(peak, psutil.Process(sandbox.pid).memory_info().rss)
    assert peak < 110 * MEBIBYTE


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory maps are read from /proc")
def test_the_decoder_loads_neither_onnxruntime_nor_torch(sandbox: PixelSandbox) -> None:
    _still_works(sandbox)
    loaded = {part.path for part in psutil.Process(sandbox.pid).memory_maps()}
    assert any("numpy" in path for path in loaded)
    assert not any("onnxruntime" in path or "torch" in path for path in loaded)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_no_malformed_file_disturbs_the_next_good_one(
    sandbox: PixelSandbox, test_data: Path
) -> None:
    peak, decoded = 0, []
    for path in sorted((test_data / "dicom_bad").glob("*.dcm")):
        try:
            count = read_facts(path).number_of_frames
            for _ in sandbox.frames(path, range(1, min(count, 100) + 1)):
                pass
            decoded.append(path.name)
        except NodeError:
            pass
        _still_works(sandbox)
        assert sandbox.pid is not None
        peak = max(peak, psutil.Process(sandbox.pid).memory_info().rss)
    assert peak < 1024 * MEBIBYTE
    assert "US_stray_seqdelim_DIRW0007.dcm" in decoded
    assert not {"US_jpegxl.dcm", "jpeg_sof_65500.dcm", "dims_65535.dcm"} & set(decoded)

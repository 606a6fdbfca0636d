import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import FIRST_EDITION, Analysis, Edition, Result, ResultKind
from dicom_node.results.overlay_gate import capture_faults, presentation_faults
from dicom_node.results.picture import Pictures
from dicom_node.results.source import read_source
from tests.support.analyses import CINE, STILL, drawn_analysis_of, pydicom_file
from tests.support.overlays import overlays_of


@pytest.fixture
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=768, timeout_s=60) as decoder:
        yield decoder


def tampered(result: Result, change: Callable[[Dataset], object]) -> Path:
    dataset = dcmread(result.path)
    change(dataset)
    dataset.save_as(result.path)
    return result.path


def faults_of_state(analysis: Analysis, path: Path, edition: Edition = FIRST_EDITION) -> list[str]:
    source = read_source(analysis.instance, analysis.facts)
    return presentation_faults(path, source=source, analysis=analysis, edition=edition)


def faults_of_capture(analysis: Analysis, path: Path, sandbox: PixelSandbox) -> list[str]:
    return capture_faults(
        path,
        source=read_source(analysis.instance, analysis.facts),
        analysis=analysis,
        edition=FIRST_EDITION,
        pictures=Pictures(analysis, FIRST_EDITION, sandbox),
    )


def shift_a_point(state: Dataset) -> None:
    graphic = state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    graphic.GraphicData = [graphic.GraphicData[0] + 1, *graphic.GraphicData[1:]]


def drop_an_annotation(state: Dataset) -> None:
    del state.GraphicAnnotationSequence[1]


def other_frame(state: Dataset) -> None:
    state.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber = 2


def other_words(state: Dataset) -> None:
    for item in state.GraphicAnnotationSequence:
        for text in item.get("TextObjectSequence", ()):
            text.UnformattedTextValue = "all is well"


def other_image(state: Dataset) -> None:
    series = state.ReferencedSeriesSequence[0]
    series.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda state: None, ""),
        (shift_a_point, "GraphicAnnotationSequence"),
        (drop_an_annotation, "GraphicAnnotationSequence"),
        (other_frame, "GraphicAnnotationSequence"),
        (other_words, "GraphicAnnotationSequence"),
        (other_image, "ReferencedImageSequence"),
        (lambda state: setattr(state, "PatientID", "somebody else"), "PatientID"),
        (lambda state: setattr(state, "SOPInstanceUID", "1.2.3"), "SOPInstanceUID"),
        (lambda state: delattr(state, "GraphicAnnotationSequence"), "not readable"),
    ],
)
def test_a_presentation_state_that_differs_from_what_was_meant_is_found_out(
    change: Callable[[Dataset], None], fault: str, tmp_path: Path
) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE), every_nth=10)
    (written,) = overlays_of(analysis, tmp_path, ResultKind.PR)
    found = faults_of_state(analysis, tampered(written, change))
    assert (fault in "; ".join(found)) and bool(found) == bool(fault), found


def swap_frames(capture: Dataset) -> None:
    first, second, third = generate_frames(capture.PixelData, number_of_frames=3)
    capture.PixelData = encapsulate([second, first, third])


def swap_colours(capture: Dataset) -> None:
    frames = []
    for code in generate_frames(capture.PixelData, number_of_frames=3):
        blue_first = np.array(Image.open(io.BytesIO(code)))[..., ::-1]
        target = io.BytesIO()
        Image.fromarray(blue_first).save(target, "JPEG", quality=92, subsampling="4:2:2")
        frames.append(target.getvalue())
    capture.PixelData = encapsulate(frames)


def without_a_frame(capture: Dataset) -> None:
    capture.PixelData = encapsulate(
        list(generate_frames(capture.PixelData, number_of_frames=3))[:2]
    )
    capture.NumberOfFrames = 2


def other_source_frame(capture: Dataset) -> None:
    capture.SourceImageSequence[0].ReferencedFrameNumber = [1, 11, 22]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda capture: None, ""),
        (swap_frames, "PixelData"),
        (swap_colours, "PixelData"),
        (without_a_frame, "number and size of frames"),
        (other_source_frame, "SourceImageSequence"),
        (lambda capture: setattr(capture, "BurnedInAnnotation", "NO"), "BurnedInAnnotation"),
        (lambda capture: setattr(capture, "PatientName", "Else^Somebody"), "PatientName"),
        (lambda capture: delattr(capture, "PixelData"), "not readable"),
    ],
)
def test_a_capture_that_differs_from_what_was_meant_is_found_out(
    change: Callable[[Dataset], None], fault: str, tmp_path: Path, sandbox: PixelSandbox
) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE), every_nth=10)
    (written,) = overlays_of(analysis, tmp_path, ResultKind.SC)
    found = faults_of_capture(analysis, tampered(written, change), sandbox)
    assert (fault in "; ".join(found)) and bool(found) == bool(fault), found


def test_one_pixel_of_a_still_is_found_out(tmp_path: Path, sandbox: PixelSandbox) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    (written,) = overlays_of(analysis, tmp_path, ResultKind.SC)

    def flip(capture: Dataset) -> None:
        pixels = bytearray(capture.PixelData)
        pixels[len(pixels) // 2] ^= 1
        capture.PixelData = bytes(pixels)

    assert faults_of_capture(analysis, tampered(written, flip), sandbox) == ["PixelData"]


def test_what_waits_on_disk_and_passes_the_gate_is_left_as_it_is(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE), every_nth=10)
    first = overlays_of(analysis, tmp_path)
    before = [result.path.read_bytes() for result in first]
    assert overlays_of(analysis, tmp_path) == first
    assert [result.path.read_bytes() for result in first] == before
    tampered(first[1], swap_frames)
    assert overlays_of(analysis, tmp_path) == first
    assert faults_of_state(analysis, first[0].path) == []

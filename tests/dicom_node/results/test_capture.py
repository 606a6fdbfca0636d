from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.pixels.decode import decode
from dicom_node.records import Analysis, ResultKind
from dicom_node.results import picture
from dicom_node.results.capture import CINE as CINE_CLASS
from dicom_node.results.capture import STILL as STILL_CLASS
from dicom_node.results.overlay import COLOURS
from tests.support.analyses import CINE, PYDICOM_FILES, STILL, drawn_analysis_of, pydicom_file
from tests.support.overlays import overlays_of


def capture_of(analysis: Analysis, folder: Path) -> Dataset:
    (written,) = overlays_of(analysis, folder, ResultKind.SC)
    capture = dcmread(written.path)
    assert capture.SOPClassUID == written.sop_class_uid
    return capture


@pytest.mark.parametrize("name", [name for name in PYDICOM_FILES if name != CINE])
def test_a_still_shows_the_tissue_pixel_for_pixel_where_nothing_is_drawn(
    name: str, tmp_path: Path
) -> None:
    analysis = drawn_analysis_of(pydicom_file(name))
    capture = capture_of(analysis, tmp_path)
    assert capture.SOPClassUID == STILL_CLASS
    assert capture.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    shown = capture.pixel_array[: analysis.facts.rows, : analysis.facts.columns]
    [(_, grey)] = decode(pydicom_file(name), [1])
    labels = analysis.segmentations[0].label_map[0]
    far = np.ones_like(labels, bool)  # farther from an edge than the widest line
    for down in range(-6, 7):
        for across in range(-6, 7):
            far &= np.roll(labels, (down, across), (0, 1)) == labels
    assert np.array_equal(shown[far], np.repeat(grey[far][:, None], 3, axis=1))
    for value, colour in zip((1, 2), COLOURS, strict=False):
        edge = (labels == value) & ~far
        assert (shown[edge] == colour).all(axis=1).any(), value


def test_words_stand_below_the_picture_and_not_on_it(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    capture = capture_of(analysis, tmp_path)
    band = capture.pixel_array[analysis.facts.rows :]
    assert len(band) > 50
    for colour in ((255, 255, 255), *COLOURS[:2]):
        assert (band == colour).all(axis=2).sum() > 50, colour


def test_a_cine_shows_the_analysed_frames_in_jpeg_and_tells_its_loss(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE), every_nth=10)
    capture = capture_of(analysis, tmp_path)
    assert (capture.SOPClassUID, capture.NumberOfFrames) == (CINE_CLASS, 3)
    assert capture.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert capture.LossyImageCompression == "01"
    assert list(capture.SourceImageSequence[0].ReferencedFrameNumber) == [1, 11, 21]
    assert capture.FrameTime == pytest.approx(10 * 33.333, abs=0.01)
    frames = capture.pixel_array
    for shown, (_, grey) in zip(frames, decode(pydicom_file(CINE), [1, 11, 21]), strict=True):
        tissue = shown[: analysis.facts.rows, : analysis.facts.columns, 1]
        assert np.median(np.abs(tissue.astype(int) - grey)) <= 3


def test_a_long_cine_is_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE))
    size_bytes = 3 * analysis.facts.rows * analysis.facts.columns
    monkeypatch.setattr(picture, "RAW_BUDGET_BYTES", 10 * size_bytes)
    capture = capture_of(analysis, tmp_path)
    shown = list(capture.SourceImageSequence[0].ReferencedFrameNumber)
    assert shown == list(range(1, 31, 3))


def test_a_capture_says_that_it_is_derived_burnt_in_and_of_which_image(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    capture = capture_of(analysis, tmp_path)
    assert capture.BurnedInAnnotation == "YES"
    assert capture.ImageType == ["DERIVED", "SECONDARY"]
    assert capture.StudyInstanceUID == analysis.instance.study_instance_uid
    (source,) = capture.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == analysis.instance.sop_instance_uid
    assert capture.SeriesDescription.startswith("AI ")


def test_an_image_of_which_every_model_failed_is_shown_with_the_reason(tmp_path: Path) -> None:
    failed = replace(drawn_analysis_of(pydicom_file(CINE)), segmentations=(), qualities=())
    capture = capture_of(failed, tmp_path)
    assert capture.SOPClassUID == STILL_CLASS
    assert capture.SourceImageSequence[0].ReferencedFrameNumber == 1


def test_pixels_that_cannot_be_decoded_give_no_capture_and_harm_nothing(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    short = tmp_path / "short.dcm"
    short.write_bytes(pydicom_file(STILL).read_bytes()[:-5000])
    broken = replace(analysis, instance=replace(analysis.instance, path=short))
    written = overlays_of(broken, tmp_path)
    assert [result.kind for result in written] == [ResultKind.PR]

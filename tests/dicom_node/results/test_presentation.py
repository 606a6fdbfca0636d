from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.records import Analysis, Edition, ResultKind
from dicom_node.results.presentation import COLOR, GRAYSCALE
from tests.support.analyses import (
    CINE,
    PYDICOM_FILES,
    STILL,
    altered,
    drawn_analysis_of,
    pydicom_file,
)
from tests.support.overlays import overlays_of

COLOURS = set(PYDICOM_FILES) - {STILL}


def state_of(analysis: Analysis, folder: Path, edition: Edition = Edition()) -> Dataset:  # noqa: B008
    (written,) = overlays_of(analysis, folder, ResultKind.PR, edition=edition)
    state = dcmread(written.path)
    assert state.SOPClassUID == written.sop_class_uid
    assert state.SOPInstanceUID == written.sop_instance_uid
    return state


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_the_class_is_that_of_the_picture(name: str, tmp_path: Path) -> None:
    state = state_of(drawn_analysis_of(pydicom_file(name), every_nth=10), tmp_path)
    assert state.SOPClassUID == (COLOR if name in COLOURS else GRAYSCALE)
    assert ("ICCProfile" in state) == (name in COLOURS)


def test_each_segment_has_a_layer_and_each_frame_its_own_outlines(tmp_path: Path) -> None:
    state = state_of(drawn_analysis_of(pydicom_file(CINE), every_nth=10), tmp_path)
    descriptions = [layer.GraphicLayerDescription for layer in state.GraphicLayerSequence]
    assert descriptions[:2] == ["Liver (liver-kidney)", "Kidney (liver-kidney)"]
    found = {
        (item.GraphicLayer, item.ReferencedImageSequence[0].ReferencedFrameNumber)
        for item in state.GraphicAnnotationSequence
    }
    layers = ("SEGMENT_1", "SEGMENT_2", "WORDS")
    assert found == {(layer, frame) for layer in layers for frame in (1, 11, 21)}


def test_outlines_stand_where_the_segment_is_in_pixels_of_the_image(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    state = state_of(analysis, tmp_path)
    (item,) = (i for i in state.GraphicAnnotationSequence if i.GraphicLayer == "SEGMENT_2")
    (graphic,) = item.GraphicObjectSequence
    assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
    points = np.array(graphic.GraphicData).reshape(-1, 2)
    rows, columns = np.nonzero(analysis.segmentations[0].label_map[0] == 2)
    assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
    assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
    assert "ReferencedFrameNumber" not in item.ReferencedImageSequence[0]


def test_the_words_of_a_frame_hold_its_score(tmp_path: Path) -> None:
    state = state_of(drawn_analysis_of(pydicom_file(CINE), every_nth=10), tmp_path)
    texts = [
        item.TextObjectSequence[0].UnformattedTextValue
        for item in state.GraphicAnnotationSequence
        if item.GraphicLayer == "WORDS"
    ]
    assert ["View quality 1 of 4" in text for text in texts] == [True] * 3
    assert all("not for diagnosis" in text for text in texts)


def test_an_image_of_which_every_model_failed_has_words_on_all_frames(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE))
    failed = replace(analysis, segmentations=(), qualities=())
    (item,) = state_of(failed, tmp_path).GraphicAnnotationSequence
    assert "ReferencedFrameNumber" not in item.ReferencedImageSequence[0]
    assert "failed" in item.TextObjectSequence[0].UnformattedTextValue


def test_a_later_version_joins_the_series(tmp_path: Path) -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    first = state_of(analysis, tmp_path)
    second = state_of(analysis, tmp_path, Edition(version=2))
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert second.InstanceNumber == 2


def test_a_grey_image_keeps_its_window_and_its_polarity(tmp_path: Path) -> None:
    def change(header: Dataset) -> None:
        header.PhotometricInterpretation = "MONOCHROME1"
        header.WindowCenter, header.WindowWidth = [100, 50], [80, 20]

    path = altered(pydicom_file(STILL), tmp_path / "grey.dcm", change)
    state = state_of(drawn_analysis_of(path), tmp_path)
    voi = state.SoftcopyVOILUTSequence[0]
    assert (voi.WindowCenter, voi.WindowWidth) == (100, 80)
    assert state.PresentationLUTShape == "INVERSE"

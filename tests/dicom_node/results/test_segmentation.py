from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import ResultError
from dicom_node.records import Analysis, ResultKind, Segmentation
from tests.support.analyses import (
    CINE,
    PYDICOM_FILES,
    SEGMENTS,
    STILL,
    analysis_of,
    pydicom_file,
    segmentation_of,
)
from tests.support.stills import write_each


def seg_of(analysis: Analysis, folder: Path) -> hd.seg.Segmentation:
    written = write_each(analysis, folder)
    (seg,) = (result for result in written if result.kind is ResultKind.SEG)
    return hd.seg.segread(seg.path)


def with_segmentation(analysis: Analysis, segmentation: Segmentation) -> Analysis:
    return replace(analysis, segmentations=(segmentation,))


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_every_frame_reads_back_as_it_was_predicted(name: str, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(name))
    seg = seg_of(analysis, tmp_path)
    uid = analysis.instance.sop_instance_uid
    if analysis.facts.number_of_frames > 1:
        numbers = range(1, analysis.facts.number_of_frames + 1)
        found = seg.get_pixels_by_source_frame(
            uid, numbers, combine_segments=True, ignore_spatial_locations=True
        )
    else:
        found = seg.get_pixels_by_source_instance(
            [uid], combine_segments=True, ignore_spatial_locations=True
        )
    assert np.array_equal(found, analysis.segmentations[0].label_map)
    assert seg.SegmentationType == "BINARY"
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_every_third_frame_keeps_its_number(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=3)
    seg = seg_of(analysis, tmp_path)
    for item in seg.PerFrameFunctionalGroupsSequence:
        frame = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        assert frame % 3 == 1
        assert item.FrameContentSequence[0].TemporalPositionIndex == frame
        assert item.FrameContentSequence[0].DimensionIndexValues[-1] == frame
    assert seg.NumberOfFrames == 2 * len(analysis.segmentations[0].frames)


@pytest.mark.parametrize("frame", [1, 17, 30])
def test_a_single_analysed_frame_of_a_cine_keeps_its_number(frame: int, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE))
    seg = seg_of(with_segmentation(analysis, segmentation_of(analysis.facts, (frame,))), tmp_path)
    numbers = {
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert numbers == {frame}


def test_a_frame_in_which_nothing_was_found_is_left_out(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE))
    whole = analysis.segmentations[0]
    labels = whole.label_map.copy()
    labels[4] = 0
    seg = seg_of(with_segmentation(analysis, replace(whole, label_map=labels)), tmp_path)
    assert seg.NumberOfFrames == 2 * 29


def test_label_values_with_gaps_become_segment_numbers(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    segments = (replace(SEGMENTS[0], value=5), replace(SEGMENTS[1], value=200))
    labels = np.array([0, 5, 200], dtype=np.uint8)[analysis.segmentations[0].label_map]
    segmentation = replace(analysis.segmentations[0], segments=segments, label_map=labels)
    seg = seg_of(with_segmentation(analysis, segmentation), tmp_path)
    found = seg.get_pixels_by_source_instance(
        [analysis.instance.sop_instance_uid], ignore_spatial_locations=True
    )
    assert np.array_equal(found[..., 0], labels == 5)
    assert np.array_equal(found[..., 1], labels == 200)


@pytest.mark.parametrize("name", [STILL, CINE])
def test_orientation_and_spacing_are_there_and_no_frame_of_reference(
    name: str, tmp_path: Path
) -> None:
    analysis = analysis_of(pydicom_file(name))
    analysis = replace(analysis, facts=replace(analysis.facts, spacing_mm=(0.25, 0.5)))
    seg = seg_of(analysis, tmp_path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert "FrameOfReferenceUID" not in seg
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.25, 0.5]
    assert len(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == 6
    assert all("PlanePositionSequence" not in i for i in seg.PerFrameFunctionalGroupsSequence)


def test_an_image_without_calibration_says_so(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    analysis = replace(analysis, facts=replace(analysis.facts, spacing_mm=None))
    assert "not calibrated" in seg_of(analysis, tmp_path).ContentDescription


def test_an_image_that_is_smaller_than_its_header_says_is_not_calibrated(tmp_path: Path) -> None:
    seg = seg_of(analysis_of(pydicom_file(CINE)), tmp_path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [1.0, 1.0]
    assert "not calibrated: 1 mm pixels are nominal" in seg.ContentDescription


def test_the_series_says_of_which_image_it_is_before_a_viewers_list_cuts_it(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE))
    number = dcmread(pydicom_file(CINE), stop_before_pixels=True).InstanceNumber
    seg = seg_of(analysis, tmp_path)
    assert f"image {number}," in seg.SeriesDescription[:20]


def test_segments_have_colours_that_differ(tmp_path: Path) -> None:
    seg = seg_of(analysis_of(pydicom_file(STILL)), tmp_path)
    colours = [tuple(item.RecommendedDisplayCIELabValue) for item in seg.SegmentSequence]
    assert len({*colours}) == 2


def test_the_series_says_ai_and_the_model_which_is_contributing_equipment(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    seg = seg_of(analysis, tmp_path)
    model = analysis.segmentations[0].algorithm
    assert seg.SeriesDescription.startswith("AI ")
    assert model.name in seg.SeriesDescription
    item = seg.ContributingEquipmentSequence[0]
    assert (item.ManufacturerModelName, item.SoftwareVersions) == (model.name, model.version)
    assert item.DeviceUID.startswith("2.25.")
    assert model.digest in item.ContributionDescription


@pytest.mark.parametrize("name", [CINE, STILL])
def test_a_lossy_source_gives_a_seg_that_says_so(name: str, tmp_path: Path) -> None:
    seg = seg_of(analysis_of(pydicom_file(name)), tmp_path)
    assert seg.LossyImageCompression == {CINE: "01", STILL: "00"}[name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: replace(s, label_map=s.label_map[:, 1:]), "must be uint8"),
        (lambda s: replace(s, label_map=s.label_map[0]), "must be uint8"),
        (lambda s: replace(s, label_map=s.label_map.astype(np.int16)), "must be uint8"),
        (lambda s: replace(s, frames=s.frames[::-1]), "must ascend"),
        (lambda s: replace(s, frames=(*s.frames[:-1], 31)), "must ascend"),
        (lambda s: replace(s, frames=(0, *s.frames[1:])), "must ascend"),
        (lambda s: replace(s, segments=s.segments[:1]), "no segment"),
    ],
)
def test_label_maps_that_do_not_fit_are_refused(change, says: str, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE))
    wrong = with_segmentation(analysis, change(analysis.segmentations[0]))
    with pytest.raises(ResultError, match=says):
        write_each(wrong, tmp_path)
    assert not list(tmp_path.glob("*.dcm*"))

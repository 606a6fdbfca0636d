from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.errors import ResultError
from dicom_node.forms import SOP_CLASSES, SegmentationForm
from dicom_node.records import Analysis, Edition
from dicom_node.results import write_results, write_still
from dicom_node.results.masks import mask_of
from tests.support.analyses import (
    CINE,
    INSTALLATION,
    algorithm,
    altered,
    analysis_of,
    pydicom_file,
)
from tests.support.stills import (
    SERIES,
    Change,
    analyses_of,
    found_in,
    merged,
    parts_of,
    read_of,
    still,
)
from tests.support.validators import dciodvfy_errors

HYBRID, NOMINAL, LABELMAP = SegmentationForm
MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
RETIRED = "1.2.840.10008.5.1.4.1.1.6"
#: of dicom3tools of 2022, which does not know the class
UNKNOWN_CLASS = ("Information Object Not found", "SegmentNumber not monotonically increasing")


def stills(folder: Path, count: int, change: Change = lambda _: None) -> list[Analysis]:
    return analyses_of([still(folder, number, change) for number in range(1, count + 1)])


def spacing(delta_cm: float) -> Change:
    """Calibrate a still."""

    def change(dataset: FileDataset) -> None:
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 95, 63
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = delta_cm
        dataset.SequenceOfUltrasoundRegions = [region]

    return change


def written_spacing(seg: Dataset) -> list[float]:
    return list(seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing)


@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_still_reads_back_as_it_was_predicted(
    count: int, form: SegmentationForm, tmp_path: Path
) -> None:
    analyses = stills(tmp_path, count)
    result = merged(parts_of(analyses, tmp_path, form), tmp_path, form)
    seg = segread(result.path)
    assert seg.SOPClassUID == result.sop_class_uid == SOP_CLASSES[form]
    assert ("FrameOfReferenceUID" in seg) == (form is NOMINAL)
    for analysis in analyses:
        read = read_of(seg, analysis.instance.sop_instance_uid)
        assert np.array_equal(read, found_in(analysis))
    assert set(result.images) == {analysis.instance.sop_instance_uid for analysis in analyses}
    assert result.source_sop_instance_uid == ""


def test_each_frame_refers_to_its_still_and_to_no_frame_of_it(tmp_path: Path) -> None:
    analyses = stills(tmp_path, 3)
    seg = dcmread(merged(parts_of(analyses, tmp_path), tmp_path).path)
    uids = [analysis.instance.sop_instance_uid for analysis in analyses]
    classes = {analysis.instance.sop_class_uid for analysis in analyses}
    [series] = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == analyses[0].instance.series_instance_uid
    frames = [
        reference
        for item in seg.PerFrameFunctionalGroupsSequence
        for derivation in item.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    ]
    assert [item.ReferencedSOPInstanceUID for item in frames] == 2 * uids  # two segments
    for references in (series.ReferencedInstanceSequence, seg.SourceImageSequence):
        assert [item.ReferencedSOPInstanceUID for item in references] == uids
    for item in (*frames, *series.ReferencedInstanceSequence, *seg.SourceImageSequence):
        assert "ReferencedFrameNumber" not in item
        assert item.ReferencedSOPClassUID in classes


def test_stills_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    analyses = analyses_of([still(tmp_path, number) for number in (10, 9, 2)])
    seg = dcmread(merged(parts_of(analyses, tmp_path), tmp_path).path)
    [series] = seg.ReferencedSeriesSequence
    uids = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert uids == [analysis.instance.sop_instance_uid for analysis in reversed(analyses)]


@pytest.mark.parametrize("sop_class", [RETIRED, MULTIFRAME])
def test_a_still_is_referred_to_by_its_own_class(sop_class: str, tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        dataset.NumberOfFrames = 1

    usual = still(tmp_path, 1)
    analyses = analyses_of([usual, still(tmp_path, 2, change)])
    seg = dcmread(merged(parts_of(analyses, tmp_path), tmp_path).path)
    [series] = seg.ReferencedSeriesSequence
    classes = [item.ReferencedSOPClassUID for item in series.ReferencedInstanceSequence]
    assert classes == [dcmread(usual).SOPClassUID, sop_class]


def test_a_spacing_that_all_stills_have_is_written(tmp_path: Path) -> None:
    analyses = stills(tmp_path, 2, spacing(0.02))
    seg = dcmread(merged(parts_of(analyses, tmp_path), tmp_path).path)
    assert written_spacing(seg) == pytest.approx([0.2, 0.2])
    assert seg.ContentDescription == "AI segmentation"


def test_of_spacings_that_differ_none_is_written_and_the_seg_says_so(tmp_path: Path) -> None:
    paths = [still(tmp_path, 1, spacing(0.02)), still(tmp_path, 2, spacing(0.03))]
    seg = dcmread(merged(parts_of(analyses_of(paths), tmp_path), tmp_path).path)
    assert written_spacing(seg) == [1.0, 1.0]
    assert "spacings differ: 1 mm pixels are nominal" in seg.ContentDescription


def test_loss_in_one_still_is_loss_in_the_seg(tmp_path: Path) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit

    paths = [still(tmp_path, 1), still(tmp_path, 2, change)]
    seg = dcmread(merged(parts_of(analyses_of(paths), tmp_path), tmp_path).path)
    assert seg.LossyImageCompression == "01"


def test_the_same_stills_give_the_same_object_and_others_another(tmp_path: Path) -> None:
    analyses = stills(tmp_path, 3)
    parts = parts_of(analyses, tmp_path)
    first = merged(parts, tmp_path)
    before = first.path.read_bytes()
    assert merged(parts[::-1], tmp_path) == first
    assert first.path.read_bytes() == before
    first.path.unlink()
    assert merged(parts, tmp_path) == first
    other_bytes = replace(analyses[0], instance=replace(analyses[0].instance, sha256="f" * 64))
    others = (
        merged(parts[:2], tmp_path),
        merged([*parts_of([other_bytes], tmp_path), *parts[1:]], tmp_path),
        merged(parts, tmp_path, edition=Edition(version=2, predecessors=(first,))),
    )
    assert len({first.sop_instance_uid, *(other.sop_instance_uid for other in others)}) == 4


def test_a_later_version_is_told_from_the_one_that_it_replaces(tmp_path: Path) -> None:
    parts = parts_of(stills(tmp_path, 2), tmp_path)
    first = merged(parts[:1], tmp_path)
    second = merged(parts, tmp_path, edition=Edition(version=2, predecessors=(first,)))
    assert second.supersedes == first.sop_instance_uid
    seg = dcmread(second.path)
    assert (seg.SeriesInstanceUID, seg.InstanceNumber) == (SERIES, 2)
    assert "v2" in seg.ContentDescription


def lower(dataset: FileDataset) -> None:
    dataset.Rows = 32


def test_the_masks_lie_below_the_results_and_say_what_they_go_into(tmp_path: Path) -> None:
    paths = [still(tmp_path, 1), still(tmp_path, 2), still(tmp_path, 3, lower)]
    segs = [write_results(a, tmp_path, installation=INSTALLATION)[0] for a in analyses_of(paths)]
    assert {*(tmp_path / "stills").iterdir()} == {mask_of(seg.path) for seg in segs}
    assert not any(seg.path.exists() for seg in segs)
    series = [seg.merging.series_instance_uid for seg in segs if seg.merging is not None]
    assert len(series) == 3
    assert series[0] == series[1] != series[2]
    cine = write_results(
        analysis_of(pydicom_file(CINE), every_nth=10), tmp_path, installation=INSTALLATION
    )
    assert cine[0].merging is None
    assert cine[0].path.exists()


def other_patient(analyses: list[Analysis]) -> list[Analysis]:
    def change(dataset: FileDataset) -> None:
        dataset.PatientID = "somebody else"

    path = analyses[1].instance.path
    altered(path, path, change)
    return analyses


def other_size(analyses: list[Analysis]) -> list[Analysis]:
    folder = analyses[0].instance.path.parent
    return [
        *analyses,
        *analyses_of([still(folder, 9, lower)]),
    ]


def other_model(analyses: list[Analysis]) -> list[Analysis]:
    [said] = analyses[0].segmentations
    another = replace(said, algorithm=algorithm("another"))
    return [replace(analyses[0], segmentations=(another,)), *analyses[1:]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_patient, "several patients"),
        (other_size, "differ in model, segments or size"),
        (other_model, "differ in model, segments or size"),
    ],
)
def test_stills_that_do_not_fit_together_are_refused(
    change: Callable[[list[Analysis]], list[Analysis]], says: str, tmp_path: Path
) -> None:
    parts = parts_of(change(stills(tmp_path, 2)), tmp_path)
    with pytest.raises(ResultError, match=says) as refused:
        merged(parts, tmp_path)
    assert "somebody" not in str(refused.value)


def test_a_mask_that_is_damaged_or_gone_is_named(tmp_path: Path) -> None:
    parts = parts_of(stills(tmp_path, 2), tmp_path)
    mask = mask_of(parts[1].result.path)
    whole = mask.read_bytes()
    flipped = bytes([whole[200] ^ 1])
    for damaged in (whole[: len(whole) // 2], b"", whole[:200] + flipped + whole[201:]):
        mask.write_bytes(damaged)
        with pytest.raises(ResultError, match=mask.name):
            merged(parts, tmp_path)
    mask.unlink()
    with pytest.raises(ResultError, match=mask.name):
        merged(parts, tmp_path)


@pytest.mark.parametrize("form", SegmentationForm)
def test_what_is_not_merged_is_written_as_what_it_was_promised_as(
    form: SegmentationForm, tmp_path: Path
) -> None:
    analyses = stills(tmp_path, 2)
    parts = parts_of(analyses, tmp_path, form)
    for analysis, part in zip(analyses, parts, strict=True):
        write_still(part, tmp_path, installation=INSTALLATION)
        seg = segread(part.result.path)
        assert seg.SOPInstanceUID == part.result.sop_instance_uid
        assert seg.SeriesInstanceUID == part.result.series_instance_uid
        assert seg.SOPClassUID == part.result.sop_class_uid == SOP_CLASSES[form]
        read = read_of(seg, analysis.instance.sop_instance_uid)
        assert np.array_equal(read, found_in(analysis))


def test_a_label_map_that_does_not_fit_the_image_is_no_mask(tmp_path: Path) -> None:
    [analysis] = stills(tmp_path, 1)
    [said] = analysis.segmentations
    wrong = replace(said, label_map=said.label_map[:, 1:])
    with pytest.raises(ResultError, match="must be uint8"):
        write_results(
            replace(analysis, segmentations=(wrong,)), tmp_path, installation=INSTALLATION
        )


def swapped(seg: Dataset) -> None:
    first, second = (
        seg.PerFrameFunctionalGroupsSequence[place]
        .DerivationImageSequence[0]
        .SourceImageSequence[0]
        for place in (0, 1)
    )
    uids = second.ReferencedSOPInstanceUID, first.ReferencedSOPInstanceUID
    first.ReferencedSOPInstanceUID, second.ReferencedSOPInstanceUID = uids


def without_a_reference(seg: Dataset) -> None:
    del seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[1]


def with_a_frame(seg: Dataset) -> None:
    item = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    item.SourceImageSequence[0].ReferencedFrameNumber = 1


def with_another_pixel(seg: Dataset) -> None:
    seg.PixelData = bytes([seg.PixelData[0] ^ 1]) + seg.PixelData[1:]


@pytest.mark.parametrize("change", [swapped, without_a_reference, with_a_frame, with_another_pixel])
def test_a_merged_seg_that_says_something_else_does_not_stay(
    change: Callable[[Dataset], None], tmp_path: Path
) -> None:
    parts = parts_of(stills(tmp_path, 2), tmp_path)
    result = merged(parts, tmp_path)
    whole = dcmread(result.path)
    changed = dcmread(result.path)
    change(changed)
    changed.save_as(result.path)
    # what is found in the folder passes the gate, or is written again
    assert merged(parts, tmp_path) == result
    again = dcmread(result.path)
    assert again.PixelData == whole.PixelData
    assert (
        again.PerFrameFunctionalGroupsSequence == whole.PerFrameFunctionalGroupsSequence
        and again.ReferencedSeriesSequence == whole.ReferencedSeriesSequence
    )


@pytest.mark.peers
@pytest.mark.parametrize("form", SegmentationForm)
@pytest.mark.parametrize("count", [1, 3])
def test_a_merged_seg_has_no_errors_in_dciodvfy(
    count: int, form: SegmentationForm, tmp_path: Path
) -> None:
    result = merged(parts_of(stills(tmp_path, count), tmp_path, form), tmp_path, form)
    errors = dciodvfy_errors(result.path)
    known = UNKNOWN_CLASS if form is LABELMAP else ()
    assert [error for error in errors if not any(words in error for words in known)] == []

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.records import Analysis, Result
from dicom_node.results.gate import report_faults, segmentation_faults
from dicom_node.results.source import read_source
from tests.support.analyses import (
    CINE,
    PYDICOM_FILES,
    STILL,
    analysis_of,
    failure,
    named,
    pydicom_file,
)
from tests.support.stills import write_each


@pytest.fixture
def analysis() -> Analysis:
    return replace(analysis_of(pydicom_file(CINE), every_nth=6), failures=(failure(),))


@pytest.fixture
def written(analysis: Analysis, tmp_path: Path) -> tuple[Result, ...]:
    return write_each(analysis, tmp_path)


def tampered(result: Result, change: Callable[[Dataset], object]) -> Path:
    dataset = dcmread(result.path)
    change(dataset)
    dataset.save_as(result.path)
    return result.path


def flip_a_pixel(seg: Dataset) -> None:
    pixels = bytearray(seg.PixelData)
    pixels[len(pixels) // 2] ^= 1
    seg.PixelData = bytes(pixels)


def shift_a_frame(seg: Dataset) -> None:
    item = seg.PerFrameFunctionalGroupsSequence[0]
    item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = 2


def other_series(seg: Dataset) -> None:
    seg.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def other_image(seg: Dataset) -> None:
    instance = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    instance.ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (flip_a_pixel, "PixelData"),
        (shift_a_frame, "references to frames of the source"),
        (other_series, "ReferencedSeriesSequence"),
        (other_image, "ReferencedInstanceSequence"),
        (lambda seg: setattr(seg, "PatientID", "somebody else"), "PatientID"),
        (lambda seg: setattr(seg, "PatientName", "Else^Somebody"), "PatientName"),
        (lambda seg: setattr(seg, "StudyInstanceUID", "1.2.3"), "StudyInstanceUID"),
        (lambda seg: setattr(seg, "AccessionNumber", "7"), "AccessionNumber"),
        (lambda seg: setattr(seg, "SOPInstanceUID", "1.2.3"), "SOPInstanceUID"),
        (lambda seg: delattr(seg, "SegmentSequence"), "not readable"),
    ],
)
def test_a_seg_that_differs_from_what_was_meant_is_found_out(
    change: Callable[[Dataset], None], fault: str, analysis: Analysis, written: tuple[Result, ...]
) -> None:
    path = tampered(written[0], change)
    source = read_source(analysis.instance, analysis.facts)
    faults = segmentation_faults(path, source=source, segmentation=analysis.segmentations[0])
    assert any(fault in found for found in faults), faults


def other_score(report: Dataset) -> None:
    number = named(report, codes.VIEW_QUALITY)[-1]
    number.MeasuredValueSequence[0].NumericValue = 4
    number.MeasuredValueSequence[0].FloatingPointValue = 4.0


def lost_score(report: Dataset) -> None:
    named(report, codes.VIEW_QUALITY)[-1].MeasuredValueSequence = []


def other_outcome(report: Dataset) -> None:
    for item in named(report, codes.FINDINGS_SUMMARY):
        item.ConceptCodeSequence[0].CodeValue = "111241"


def other_frame(report: Dataset) -> None:
    for item in _points(report):
        item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = 30


def _points(parent: Dataset) -> list[Dataset]:
    found = [i for i in parent.get("ContentSequence", ()) if i.ValueType == "SCOORD"]
    for item in parent.get("ContentSequence", ()):
        found += _points(item)
    return found


def other_comment(report: Dataset) -> None:
    named(report, codes.COMMENT)[0].TextValue = "all is well"


def other_evidence(report: Dataset) -> None:
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (other_score, "measurement groups"),
        (lost_score, "not readable"),
        (other_outcome, "measurement groups"),
        (other_outcome, "summary"),
        (other_frame, "measurement groups"),
        (other_comment, "summary"),
        (other_evidence, "CurrentRequestedProcedureEvidenceSequence"),
        (lambda report: setattr(report, "PatientBirthDate", "19000101"), "PatientBirthDate"),
        (lambda report: setattr(report, "StudyID", "7"), "StudyID"),
        (lambda report: delattr(report, "ContentSequence"), "not readable"),
    ],
)
def test_a_report_that_differs_from_what_was_meant_is_found_out(
    change: Callable[[Dataset], None], fault: str, analysis: Analysis, written: tuple[Result, ...]
) -> None:
    path = tampered(written[-1], change)
    source = read_source(analysis.instance, analysis.facts)
    faults = report_faults(path, source=source, analysis=analysis)
    assert any(fault in found for found in faults), faults


def test_a_fault_names_the_attribute_and_never_its_value(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    seg, report = write_each(analysis, tmp_path)
    source = read_source(analysis.instance, analysis.facts)
    for result in (seg, report):
        tampered(result, lambda dataset: setattr(dataset, "PatientName", "Secret^Name"))
    faults = segmentation_faults(
        seg.path, source=source, segmentation=analysis.segmentations[0]
    ) + report_faults(report.path, source=source, analysis=analysis)
    assert faults == ["PatientName", "PatientName"]


def test_bytes_cut_short_are_found_out(analysis: Analysis, written: tuple[Result, ...]) -> None:
    source = read_source(analysis.instance, analysis.facts)
    for size in np.linspace(1, written[0].path.stat().st_size - 2, 7, dtype=int):
        part = written[0].path.with_suffix(".cut")
        part.write_bytes(written[0].path.read_bytes()[:size])
        assert segmentation_faults(part, source=source, segmentation=analysis.segmentations[0])


def first_segment(seg: Dataset) -> Dataset:
    return seg.SegmentSequence[0]


def kidney_for_liver(seg: Dataset) -> None:
    first_segment(seg).SegmentedPropertyTypeCodeSequence[0].CodeValue = "64033007"


def other_model(seg: Dataset) -> None:
    first_segment(seg).SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion = "2.0.0"


def frame_twice(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence.append(seg.PerFrameFunctionalGroupsSequence[0])


def other_spacing(seg: Dataset) -> None:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [7.5, 7.5]


def code_without_meaning(seg: Dataset) -> None:
    item = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    del item.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeMeaning


def no_reference_class(seg: Dataset) -> None:
    item = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    item.SourceImageSequence[0].ReferencedSOPClassUID = ""


def leading_zero(seg: Dataset) -> None:
    seg.DimensionOrganizationSequence[0].DimensionOrganizationUID = "2.25.07"


def other_class_in_the_meta(seg: Dataset) -> None:
    seg.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def in_the_images_series(seg: Dataset) -> None:
    seg.SeriesInstanceUID = seg.ReferencedSeriesSequence[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (kidney_for_liver, "SegmentSequence"),
        (other_model, "SegmentationAlgorithmIdentificationSequence"),
        (frame_twice, "NumberOfFrames"),
        (code_without_meaning, "CodeMeaning is missing"),
        (no_reference_class, "ReferencedSOPClassUID is missing"),
        (leading_zero, "DimensionOrganizationUID is not legal"),
        (other_class_in_the_meta, "MediaStorageSOPClassUID"),
        (in_the_images_series, "SeriesInstanceUID is the image's"),
        (lambda seg: delattr(seg, "PatientSex"), "PatientSex is missing"),
        (lambda seg: setattr(seg, "OtherPatientIDs", "7"), "OtherPatientIDs is not in the image"),
        (lambda seg: delattr(seg, "SeriesNumber"), "SeriesNumber is missing"),
        (lambda seg: setattr(seg, "ContentLabel", ""), "ContentLabel is missing"),
        (lambda seg: delattr(seg, "DeviceSerialNumber"), "DeviceSerialNumber is missing"),
        (lambda seg: setattr(seg, "ContentLabel", "small letters"), "ContentLabel is not legal"),
        (lambda seg: setattr(seg, "SeriesDescription", "x" * 65), "SeriesDescription is not legal"),
        (lambda seg: setattr(seg, "SeriesInstanceUID", "2.25.01"), "SeriesInstanceUID is not"),
        (
            lambda seg: delattr(seg, "ContributingEquipmentSequence"),
            "ContributingEquipmentSequence",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom says of some that they are illegal
def test_a_seg_that_says_the_wrong_things_or_breaks_a_rule_is_found_out(
    change: Callable[[Dataset], None], fault: str, analysis: Analysis, written: tuple[Result, ...]
) -> None:
    path = tampered(written[0], change)
    source = read_source(analysis.instance, analysis.facts)
    faults = segmentation_faults(path, source=source, segmentation=analysis.segmentations[0])
    assert any(fault in found for found in faults), faults


def test_pixels_of_another_size_than_the_scanner_said_are_found_out(tmp_path: Path) -> None:
    calibrated = analysis_of(pydicom_file(STILL))
    facts = replace(calibrated.facts, spacing_mm=(0.25, 0.5))
    calibrated = replace(calibrated, facts=facts)
    seg, _ = write_each(calibrated, tmp_path)
    source = read_source(calibrated.instance, facts)
    said = calibrated.segmentations[0]
    assert segmentation_faults(seg.path, source=source, segmentation=said) == []
    faults = segmentation_faults(tampered(seg, other_spacing), source=source, segmentation=said)
    assert faults == ["PixelSpacing"]


def verified(report: Dataset) -> None:
    report.VerificationFlag = "VERIFIED"


def other_unit(report: Dataset) -> None:
    value = named(report, codes.PROBABILITY)[0].MeasuredValueSequence[0]
    value.MeasurementUnitsCodeSequence[0].CodeValue = "%"


def two_numbers(report: Dataset) -> None:
    value = named(report, codes.PROBABILITY)[0].MeasuredValueSequence[0]
    value.FloatingPointValue = 0.125


def point_outside(report: Dataset) -> None:
    _points(report)[0].GraphicData = [-1.0, 5.0]


def other_organ(report: Dataset) -> None:
    sites = [
        item
        for group in report.ContentSequence
        for measurements in group.get("ContentSequence", ())
        for item in measurements.get("ContentSequence", ())
        if item.ConceptNameCodeSequence[0].CodeValue == "363698007"
    ]
    sites[0].ConceptCodeSequence[0].CodeValue = "64033007"


def other_template(report: Dataset) -> None:
    report.ContentTemplateSequence[0].TemplateIdentifier = "2000"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (verified, "VerificationFlag"),
        (other_unit, "units"),
        (two_numbers, "units"),
        (point_outside, "GraphicData"),
        (other_organ, "models and finding sites"),
        (other_template, "ContentTemplateSequence"),
        (lambda report: setattr(report, "CompletionFlag", "PARTIAL"), "CompletionFlag"),
        (lambda report: setattr(report, "SeriesInstanceUID", "2.25.7"), "SeriesInstanceUID"),
        (lambda report: delattr(report, "ReferringPhysicianName"), "ReferringPhysicianName is"),
        (lambda report: setattr(report, "StudyDescription", "Liver"), "StudyDescription"),
    ],
)
def test_a_report_that_says_the_wrong_things_or_breaks_a_rule_is_found_out(
    change: Callable[[Dataset], None], fault: str, analysis: Analysis, written: tuple[Result, ...]
) -> None:
    path = tampered(written[-1], change)
    source = read_source(analysis.instance, analysis.facts)
    faults = report_faults(path, source=source, analysis=analysis)
    assert any(fault in found for found in faults), faults


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_an_object_as_it_was_meant_passes(tmp_path: Path, name: str) -> None:
    whole = analysis_of(pydicom_file(name), every_nth=7)
    seg, report = write_each(whole, tmp_path)
    source = read_source(whole.instance, whole.facts)
    assert segmentation_faults(seg.path, source=source, segmentation=whole.segmentations[0]) == []
    assert report_faults(report.path, source=source, analysis=whole) == []

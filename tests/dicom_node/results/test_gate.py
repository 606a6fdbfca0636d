from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.records import Analysis, Result
from dicom_node.results import write_results
from dicom_node.results.gate import report_faults, segmentation_faults
from dicom_node.results.source import read_source
from tests.support.analyses import (
    CINE,
    INSTALLATION,
    STILL,
    analysis_of,
    failure,
    named,
    pydicom_file,
)


@pytest.fixture
def analysis() -> Analysis:
    return replace(analysis_of(pydicom_file(CINE), every_nth=6), failures=(failure(),))


@pytest.fixture
def written(analysis: Analysis, tmp_path: Path) -> tuple[Result, ...]:
    return write_results(analysis, tmp_path, installation=INSTALLATION)


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
    seg, report = write_results(analysis, tmp_path, installation=INSTALLATION)
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

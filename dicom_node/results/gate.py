"""The gate: an object leaves only when what is read back is what was meant.

Each fault is named by attribute, never by value: the list ends up in logs.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import highdicom as hd
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes as dicom_codes

from dicom_node import codes
from dicom_node.forms import SOP_CLASSES, ReportForm, SegmentationForm
from dicom_node.header import BROKEN_BYTES, text
from dicom_node.records import FIRST_EDITION, Analysis, Edition, Segmentation
from dicom_node.results.described import segment_faults, statement_faults
from dicom_node.results.frames import frame_faults, image_of, reference_of
from dicom_node.results.groups import (
    algorithm_parameter,
    frames_of,
    rounded,
    status_of,
)
from dicom_node.results.report import (
    outcome,
    predecessors,
    report_series_uid,
    report_uid,
    sentences,
)
from dicom_node.results.rules import rule_faults
from dicom_node.results.segmentation import segmentation_uid
from dicom_node.results.source import Source

#: a value, or the code of CID 42 that says why there is none
_Number = float | str | None
#: what a measurement group says: algorithm, frames, score, probability, CID 6047 code
_Said = tuple[str, tuple[int, ...], _Number, _Number, str | None]


def segmentation_faults(
    path: Path,
    *,
    source: Source,
    segmentation: Segmentation,
    edition: Edition = FIRST_EDITION,
    form: SegmentationForm = SegmentationForm.HYBRID,
) -> list[str]:
    """Read a SEG back and return what differs from the label maps it was made of.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        The image that it must refer to.
    segmentation : Segmentation
        The label maps that it must hold, voxel for voxel.
    edition : Edition
        Which version it must be.
    form : SegmentationForm
        What it must be written as.

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        seg = hd.seg.segread(path)
        uid = segmentation_uid(source, segmentation, edition, form)
        identity = Identity("SEG", SOP_CLASSES[form], uid, edition.version)
        faults = identity_faults(seg, source, identity)
        series = seg.ReferencedSeriesSequence
        references = [item for entry in series for item in entry.ReferencedInstanceSequence]
        if [entry.SeriesInstanceUID for entry in series] != [source.instance.series_instance_uid]:
            faults.append("ReferencedSeriesSequence")
        images = [image_of(one) for one in source.stills or (source,)]
        if [reference_of(item)[:2] for item in references] != images:
            faults.append("ReferencedInstanceSequence")
        faults += rule_faults(seg, source, "SEG")
        faults += segment_faults(seg, segmentation, source.facts)
        return faults + frame_faults(seg, source, segmentation, form)
    except BROKEN_BYTES as exc:
        return [f"not readable by highdicom ({type(exc).__name__})"]


def report_faults(
    path: Path,
    *,
    source: Source,
    analysis: Analysis,
    edition: Edition = FIRST_EDITION,
    form: ReportForm = ReportForm.COMPREHENSIVE_3D,
) -> list[str]:
    """Read an SR back and return what differs from the analysis it was made of.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        The image that it must refer to.
    analysis : Analysis
        The scores and outcomes that it must hold.
    edition : Edition
        Which version it must be, and what it must name as replaced.
    form : ReportForm
        What it must be written as.

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        report = dcmread(path)
        uid = report_uid(analysis, edition, form)
        identity = Identity("SR", SOP_CLASSES[form], uid, edition.version)
        faults = identity_faults(report, source, identity)
        instance = source.instance
        if _evidence(report) != [
            (instance.study_instance_uid, instance.series_instance_uid, *image_of(source))
        ]:
            faults.append("CurrentRequestedProcedureEvidenceSequence")
        faults += rule_faults(report, source, "SR")
        items = list(_items(report))
        faults += statement_faults(report, items, analysis, source.facts)
        checks = {
            "SeriesInstanceUID": report.SeriesInstanceUID == report_series_uid(analysis, form),
            "references to the image": _references(items) == {image_of(source)},
            "measurement groups": _groups(items) == _expected_groups(analysis),
            "summary": _summary(report) == [outcome(analysis).value, *sentences(analysis, edition)],
            "predecessors": _predecessors(report)
            == [earlier.sop_instance_uid for earlier in predecessors(edition, form)],
        }
        return faults + [what for what, good in checks.items() if not good]
    except BROKEN_BYTES as exc:
        return [f"not readable by highdicom ({type(exc).__name__})"]


def _evidence(report: Dataset) -> list[tuple[str, ...]]:
    return [
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), *reference_of(item)[:2])
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in report.get(keyword, ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


class Identity(NamedTuple):
    """What an object must say that it is."""

    modality: str
    sop_class_uid: str
    sop_instance_uid: str
    version: int


def identity_faults(dataset: Dataset, source: Source, identity: Identity) -> list[str]:
    """Return the keywords of what is wrong about the object, its patient and its study."""
    expected = {
        "SOPClassUID": identity.sop_class_uid,
        "SOPInstanceUID": identity.sop_instance_uid,
        "Modality": identity.modality,
        "InstanceNumber": str(identity.version),
        "StudyInstanceUID": source.instance.study_instance_uid,
        **source.patient_and_study,
    }
    return [key for key, value in expected.items() if text(dataset, key) != value]


def _items(parent: Dataset) -> Iterator[Dataset]:
    """Walk the content tree (PS3.3 C.17.3) from the top to the leaves."""
    for item in parent.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _references(items: Iterable[Dataset]) -> set[tuple[str, str]]:
    return {
        reference_of(reference)[:2]
        for item in items
        for reference in item.get("ReferencedSOPSequence", ())
    }


def _groups(items: Iterable[Dataset]) -> list[_Said]:
    name = dicom_codes.DCM.MeasurementGroup.value
    return sorted((_said(item) for item in items if _name(item) == name), key=repr)


def _said(group: Dataset) -> _Said:
    items = list(_items(group))
    values = {(item.ValueType, _name(item)): item for item in items}
    frames = {
        int(frame)
        for item in items
        for reference in item.get("ReferencedSOPSequence", ())
        for frame in _many(reference.get("ReferencedFrameNumber"))
    }
    return (
        values["TEXT", dicom_codes.DCM.AlgorithmParameters.value].TextValue,
        tuple(sorted(frames)),
        _number(values.get(("NUM", codes.VIEW_QUALITY.value))),
        _number(values.get(("NUM", codes.PROBABILITY.value))),
        _code(values.get(("CODE", codes.FINDINGS_SUMMARY.value))),
    )


def _summary(report: Dataset) -> list[str]:
    return [
        str(_code(item) if item.ValueType == "CODE" else item.TextValue)
        for container in report.ContentSequence
        if _name(container) == codes.QUALITATIVE_EVALUATIONS.value
        for item in container.ContentSequence
    ]


def _predecessors(report: Dataset) -> list[str]:
    return [
        str(reference.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _code(item: Dataset | None) -> str | None:
    return str(item.ConceptCodeSequence[0].CodeValue) if item is not None else None


def _number(item: Dataset | None) -> _Number:
    if item is None:
        return None
    if not item.MeasuredValueSequence:
        return str(item.NumericValueQualifierCodeSequence[0].CodeValue)
    return float(item.MeasuredValueSequence[0].NumericValue)


def _many(value: object) -> Iterable[int]:
    """Return the values of an IS of any multiplicity."""
    if value is None:
        return ()
    return value if isinstance(value, MultiValue) else (int(str(value)),)


def _expected_number(value: float | None) -> _Number:
    return codes.MEASUREMENT_FAILURE.value if value is None else float(value)


def _expected_groups(analysis: Analysis) -> list[_Said]:
    facts = analysis.facts
    said: list[_Said] = [
        (
            algorithm_parameter(quality.algorithm),
            frames_of((score.frame,), facts),
            _expected_number(score.score),
            _expected_number(rounded(score.probability)),
            None,
        )
        for quality in analysis.qualities
        for score in quality.scores
    ]
    for segmentation in analysis.segmentations:
        status, frames = status_of(segmentation)
        parameter = algorithm_parameter(segmentation.algorithm)
        said.append((parameter, frames_of(frames, facts), None, None, status.value))
    for failure in analysis.failures:
        parameter = algorithm_parameter(failure.algorithm)
        said.append((parameter, (), None, None, codes.NONE_SUCCEEDED.value))
    return sorted(said, key=repr)

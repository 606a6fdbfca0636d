"""The gate: an object leaves only when what is read back is what was meant.

Each fault is named by attribute, never by value: the list ends up in logs.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation as Seg
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes as dicom_codes

from dicom_node import codes
from dicom_node.header import BROKEN_BYTES, text
from dicom_node.records import FIRST_EDITION, Analysis, Edition, Segmentation
from dicom_node.results.groups import (
    PROBABILITY_DECIMALS,
    algorithm_parameter,
    frames_of,
    status_of,
)
from dicom_node.results.parts import referenced_class
from dicom_node.results.report import outcome, predecessors, report_uid, sentences
from dicom_node.results.segmentation import segment_numbers, segmentation_uid
from dicom_node.results.source import Source

#: Read back at once: a long cine whole would take as much memory again.
_FRAMES_AT_ONCE: Final = 32
#: what a measurement group says: algorithm, frames, score, probability, CID 6047 code
_Said = tuple[str, tuple[int, ...], float | None, float | None, str | None]


def segmentation_faults(
    path: Path, *, source: Source, segmentation: Segmentation, edition: Edition = FIRST_EDITION
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

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        seg = hd.seg.segread(path)
        uid = segmentation_uid(source, segmentation, edition)
        faults = identity_faults(seg, source, Identity("SEG", uid, edition.version))
        series = seg.ReferencedSeriesSequence
        references = [item for entry in series for item in entry.ReferencedInstanceSequence]
        if [entry.SeriesInstanceUID for entry in series] != [source.instance.series_instance_uid]:
            faults.append("ReferencedSeriesSequence")
        if [_reference(item)[:2] for item in references] != [_image(source)]:
            faults.append("ReferencedInstanceSequence")
        return faults + _frame_faults(seg, source, segmentation)
    except BROKEN_BYTES as exc:
        return [f"not readable by highdicom ({type(exc).__name__})"]


def report_faults(
    path: Path, *, source: Source, analysis: Analysis, edition: Edition = FIRST_EDITION
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

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        report = hd.sr.srread(path)
        uid = report_uid(analysis, edition)
        faults = identity_faults(report, source, Identity("SR", uid, edition.version))
        evidence = [(str(e[0]), str(e[1]), str(e[3]), str(e[2])) for e in report.get_evidence()]
        instance = source.instance
        if evidence != [
            (instance.study_instance_uid, instance.series_instance_uid, *_image(source))
        ]:
            faults.append("CurrentRequestedProcedureEvidenceSequence")
        items = list(_items(report))
        checks = {
            "references to the image": _references(items) == {_image(source)},
            "measurement groups": _groups(items) == _expected_groups(analysis),
            "summary": _summary(report) == [outcome(analysis).value, *sentences(analysis, edition)],
            "predecessors": _predecessors(report)
            == [earlier.sop_instance_uid for earlier in predecessors(edition)],
        }
        return faults + [what for what, good in checks.items() if not good]
    except BROKEN_BYTES as exc:
        return [f"not readable by highdicom ({type(exc).__name__})"]


class Identity(NamedTuple):
    """What an object must say that it is."""

    modality: str
    sop_instance_uid: str
    version: int


def identity_faults(dataset: Dataset, source: Source, identity: Identity) -> list[str]:
    """Return the keywords of what is wrong about the object, its patient and its study."""
    expected = {
        "SOPInstanceUID": identity.sop_instance_uid,
        "Modality": identity.modality,
        "InstanceNumber": str(identity.version),
        "StudyInstanceUID": source.instance.study_instance_uid,
        **source.patient_and_study,
    }
    return [key for key, value in expected.items() if text(dataset, key) != value]


def _frame_faults(seg: Seg, source: Source, segmentation: Segmentation) -> list[str]:
    """Compare frame references and pixels with the label maps."""
    expected = segment_numbers(source.facts, segmentation)  # (N, R, C)
    cine = source.facts.number_of_frames > 1
    found = {
        (_segment_number(seg, item), *_reference(reference))
        for item in seg.PerFrameFunctionalGroupsSequence
        for derivation in item.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    }
    wanted = {
        (number, *_image(source), frame if cine else None)
        for frame, labels in zip(segmentation.frames, expected, strict=True)
        for number in range(1, len(segmentation.segments) + 1)
        if (labels == number).any()
    }
    if found != wanted or seg.NumberOfFrames != len(wanted):
        return ["references to frames of the source"]
    return [] if _same_pixels(seg, source, segmentation.frames, expected) else ["PixelData"]


def _segment_number(seg: Seg, item: Dataset) -> int:
    """Return the segment of a frame; an only segment stands in the shared groups."""
    holder = (
        item if "SegmentIdentificationSequence" in item else seg.SharedFunctionalGroupsSequence[0]
    )
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _same_pixels(
    seg: Seg, source: Source, frames: tuple[int, ...], expected: NDArray[np.uint8]
) -> bool:
    """Compare what a reader gets with segment numbers (N, R, C), some frames at a time."""
    try:
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            some = slice(start, start + _FRAMES_AT_ONCE)
            if not np.array_equal(_pixels(seg, source, frames[some]), expected[some]):
                return False
    except RuntimeError:  # highdicom, of segments that overlap
        return False
    return True


def _pixels(seg: Seg, source: Source, frames: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return segment numbers (N, R, C) of those frames as a reader gets them."""
    uid = source.instance.sop_instance_uid
    pixels: NDArray[np.uint8]
    if source.facts.number_of_frames > 1:
        pixels = seg.get_pixels_by_source_frame(
            uid,
            frames,
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        pixels = seg.get_pixels_by_source_instance(
            [uid], combine_segments=True, ignore_spatial_locations=True
        )
    return pixels


def _image(source: Source) -> tuple[str, str]:
    return referenced_class(source), source.instance.sop_instance_uid


def _reference(item: Dataset) -> tuple[str, str, int | None]:
    return (
        str(item.ReferencedSOPClassUID),
        str(item.ReferencedSOPInstanceUID),
        item.get("ReferencedFrameNumber"),
    )


def _items(parent: Dataset) -> Iterator[Dataset]:
    """Walk the content tree (PS3.3 C.17.3) from the top to the leaves."""
    for item in parent.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _references(items: Iterable[Dataset]) -> set[tuple[str, str]]:
    return {
        _reference(reference)[:2]
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


def _number(item: Dataset | None) -> float | None:
    return float(item.MeasuredValueSequence[0].NumericValue) if item is not None else None


def _many(value: object) -> Iterable[int]:
    """Return the values of an IS of any multiplicity."""
    if value is None:
        return ()
    return value if isinstance(value, MultiValue) else (int(str(value)),)


def _expected_groups(analysis: Analysis) -> list[_Said]:
    facts = analysis.facts
    said: list[_Said] = [
        (
            algorithm_parameter(quality.algorithm),
            frames_of((score.frame,), facts),
            float(score.score),
            round(score.probability, PROBABILITY_DECIMALS),
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

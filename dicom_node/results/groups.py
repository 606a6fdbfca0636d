"""The measurement groups of the report (PS3.16 TID 1410, TID 1501).

One group for each frame and quality score, one for each other model, in which (111017,DCM) tells
how it went. Each is anchored at a POINT near the top left corner, where OHIF writes its text: for a
group without coordinates it shows a black pane.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.sr.coding import Code

from dicom_node import codes
from dicom_node.records import (
    Algorithm,
    Analysis,
    CodedConcept,
    FrameScore,
    ImageFacts,
    QualityScores,
    Segmentation,
)
from dicom_node.results.parts import check_frames, concept, stand_in
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

SCORE_UNIT: Final = CodedConcept(value="{score}", scheme="UCUM", meaning="score")
#: Probabilities are written with so many decimals.
PROBABILITY_DECIMALS: Final = 4

Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def measurement_groups(source: Source, analysis: Analysis, uid: str) -> list[Group]:
    """Make the groups of a report: scores, then segmentations, then failures.

    Parameters
    ----------
    source : Source
        The image.
    analysis : Analysis
        What the models said of it.
    uid : str
        SOP Instance UID of the report; Tracking Unique Identifiers (112040,DCM) follow from it.

    Raises
    ------
    ResultError
        When a score is of a frame that the image does not have.
    """
    groups = []
    row = 0
    for quality in analysis.qualities:
        check_frames([score.frame for score in quality.scores], source.facts)
        maker = _GroupMaker(source, quality.algorithm, uid, row)
        sites = quality.finding_sites
        groups += [_score_group(maker, score, sites) for score in quality.scores]
        row += 1
    for segmentation in analysis.segmentations:
        maker = _GroupMaker(source, segmentation.algorithm, uid, row)
        groups.append(_segmentation_group(maker, segmentation))
        row += 1
    for failure in analysis.failures:
        maker = _GroupMaker(source, failure.algorithm, uid, row)
        groups.append(
            maker.make(f"{failure.task.value} failed", (), evaluations=[codes.NONE_SUCCEEDED])
        )
        row += 1
    return groups


def empty_failed_values(parent: Dataset) -> None:
    """Take the numbers out of the content items that say why they have none (PS3.3 C.18.1).

    highdicom can neither make nor read such an item.
    """
    for item in parent.get("ContentSequence", ()):
        if "NumericValueQualifierCodeSequence" in item:
            item.MeasuredValueSequence = []
        empty_failed_values(item)


def rounded(probability: float | None) -> float | None:
    """Return a probability as it is written."""
    return None if probability is None else round(probability, PROBABILITY_DECIMALS)


def unscored(quality: QualityScores) -> list[int]:
    """Return the frames for which the model gave no number."""
    return [score.frame for score in quality.scores if score.score is None]


def algorithm_parameter(algorithm: Algorithm) -> str:
    """Return the text of (111002,DCM,"Algorithm Parameters"): which weights spoke."""
    return f"model sha256={algorithm.digest}"


def frames_of(frames: Iterable[int], facts: ImageFacts) -> tuple[int, ...]:
    """Return what Referenced Frame Number (0008,1160) says; a still is referred to without it."""
    return tuple(frames) if facts.number_of_frames > 1 else ()


def status_of(segmentation: Segmentation) -> tuple[CodedConcept, tuple[int, ...]]:
    """Return a code of CID 6047 and the frames in which it holds."""
    if segmentation.is_empty:
        return codes.ALL_SUCCEEDED_WITHOUT_FINDINGS, segmentation.frames
    planes = zip(segmentation.frames, segmentation.label_map, strict=True)
    return codes.ALL_SUCCEEDED_WITH_FINDINGS, tuple(n for n, labels in planes if labels.any())


def _score_group(maker: "_GroupMaker", score: FrameScore, sites: Sequence[CodedConcept]) -> Group:
    return maker.make(
        f"view quality, frame {score.frame}",
        (score.frame,),
        finding_type=codes.VIEW_QUALITY,
        sites=sites,
        measurements=[
            _measurement(codes.VIEW_QUALITY, score.score, concept(SCORE_UNIT)),
            _measurement(codes.PROBABILITY, rounded(score.probability), dicom_codes.UCUM.NoUnits),
        ],
    )


def _measurement(
    name: CodedConcept, value: float | None, unit: sr.CodedConcept | Code
) -> sr.Measurement:
    """Make a NUM; one without a value holds 0 until `empty_failed_values`."""
    failed = concept(codes.MEASUREMENT_FAILURE) if value is None else None
    return sr.Measurement(concept(name), 0 if value is None else value, unit, qualifier=failed)


def _segmentation_group(maker: "_GroupMaker", segmentation: Segmentation) -> Group:
    status, frames = status_of(segmentation)
    return maker.make(
        "organ segmentation",
        frames,
        finding_type=codes.ORGAN_SEGMENTATION,
        sites=[segment.type for segment in segmentation.segments],
        evaluations=[status],
    )


class _GroupMaker:
    """Makes the groups of one model; `row` is its line of text in a viewer."""

    def __init__(self, source: Source, algorithm: Algorithm, uid: str, row: int) -> None:
        self._source = source
        self._algorithm = algorithm
        self._uid = uid
        self._row = row

    def make(
        self,
        name: str,
        frames: Sequence[int],
        *,
        finding_type: CodedConcept | None = None,
        sites: Sequence[CodedConcept] = (),
        measurements: Sequence[sr.Measurement] = (),
        evaluations: Sequence[CodedConcept] = (),
    ) -> Group:
        """Make a group; no frames means the whole image."""
        algorithm = self._algorithm
        tracking_uid = derived_uid("tracking", self._uid, algorithm.digest, name)
        common: dict[str, Any] = {
            "tracking_identifier": sr.TrackingIdentifier(uid=tracking_uid, identifier=name),
            "finding_type": concept(finding_type) if finding_type else None,
            "finding_sites": [sr.FindingSite(concept(site)) for site in sites] or None,
            "algorithm_id": sr.AlgorithmIdentification(
                name=algorithm.name,
                version=algorithm.version,
                parameters=[algorithm_parameter(algorithm)],
                family=concept(codes.ARTIFICIAL_INTELLIGENCE),
                manufacturer=algorithm.manufacturer,
            ),
            "measurements": list(measurements) or None,
            "qualitative_evaluations": [
                sr.QualitativeEvaluation(concept(codes.FINDINGS_SUMMARY), concept(value))
                for value in evaluations
            ]
            or None,
        }
        instance, facts = self._source.instance, self._source.facts
        # the stand-in's class: highdicom knows no retired ones; `finish` restores the true one
        image = (
            stand_in(self._source).SOPClassUID,
            instance.sop_instance_uid,
            list(frames_of(frames, facts)) or None,
        )
        if not facts.rows:  # an image that could not be read has no place for a point
            return sr.MeasurementsAndQualitativeEvaluations(
                source_images=[sr.SourceImageForMeasurementGroup(*image)], **common
            )
        point = [[0.05 * facts.columns, min(0.1 + 0.06 * self._row, 0.95) * facts.rows]]
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=sr.ImageRegion(
                "POINT", np.array(point), sr.SourceImageForRegion(*image)
            ),
            **common,
        )

"""What the models said of one image, as a TID 1500 Measurement Report (PS3.16).

A radiologist expects one report an image, the newest on top, and to be told when something
changed. So a study that opens again gets reports on the images that came late, and on those alone:
a second report with the same words on every earlier image would have to be read to learn that it
says nothing new. Each of them says of which revision of the study it is. When an image itself is
analysed anew (its bytes were replaced, or other models look at it), the new report joins the series
of the old one under a higher Instance Number, names it in Predecessor Documents Sequence (PS3.3
C.17.2.3) and says in words that it replaces it. Nothing is taken back from an archive: both stay
readable.
"""

from typing import Final

import highdicom as hd
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes

from dicom_node import codes
from dicom_node.forms import SOP_CLASSES, ReportForm, kind_in_uids
from dicom_node.records import (
    Algorithm,
    Analysis,
    CodedConcept,
    Edition,
    FailedAnalysis,
    QualityScores,
    Result,
    ResultKind,
    Segmentation,
)
from dicom_node.results.document import Document
from dicom_node.results.groups import empty_failed_values, measurement_groups, unscored
from dicom_node.results.installation import Installation
from dicom_node.results.parts import (
    UNICODE,
    concept,
    equipment,
    finish,
    series_description,
    shortened,
    stand_in,
    writer,
)
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

_SERIES_NUMBER: Final = 9002
_COMMENT_LENGTH: Final = 1024
_NEW_REVISION: Final = (
    "Study revision {}: this image came, or was analysed anew, after the study was complete before"
)
_NEW_VERSION: Final = "Version {} of the report on this image; it replaces the one before"

#: CID 6047 by (something failed, something was found)
_OUTCOMES: Final = {
    (False, False): codes.ALL_SUCCEEDED_WITHOUT_FINDINGS,
    (False, True): codes.ALL_SUCCEEDED_WITH_FINDINGS,
    (True, False): codes.SOME_SUCCEEDED_WITHOUT_FINDINGS,
    (True, True): codes.SOME_SUCCEEDED_WITH_FINDINGS,
}


def report_uid(analysis: Analysis, edition: Edition, form: ReportForm) -> str:
    """Return the SOP Instance UID of an analysis' SR.

    It follows from the image and its bytes, the version, the models, and how each of them ended: a
    model that fails today and succeeds tomorrow gives two reports, of which no PACS takes the
    second for a duplicate.
    """
    ends = [
        f"{s.algorithm.digest} {'empty' if s.is_empty else 'found'}" for s in analysis.segmentations
    ]
    ends += [_how_scored(quality) for quality in analysis.qualities]
    ends += [f"{f.algorithm.digest} failed" for f in analysis.failures]
    image, version = analysis.instance, edition.word
    kind = kind_in_uids("sr", form)
    return derived_uid(kind, image.sop_instance_uid, image.sha256, version, *sorted(ends))


def _how_scored(quality: QualityScores) -> str:
    without = unscored(quality)
    return f"{quality.algorithm.digest} scored{f' but for {without}' if without else ''}"


def report_series_uid(analysis: Analysis, form: ReportForm) -> str:
    """Return the series of every report on an image in one form."""
    return derived_uid("series", kind_in_uids("sr", form), analysis.instance.sop_instance_uid)


def predecessors(edition: Edition, form: ReportForm) -> list[Result]:
    """Return the reports that a report replaces: of its form, or of any when there was none."""
    reports = [result for result in edition.predecessors if result.kind is ResultKind.SR]
    return [r for r in reports if r.sop_class_uid == SOP_CLASSES[form]] or reports


def outcome(analysis: Analysis) -> CodedConcept:
    """Return how the analysis ended, a code of CID 6047; a quality score is no finding."""
    scored = [score.score is not None for q in analysis.qualities for score in q.scores]
    if not analysis.segmentations and not any(scored):
        return codes.NONE_SUCCEEDED
    found = any(not segmentation.is_empty for segmentation in analysis.segmentations)
    return _OUTCOMES[bool(analysis.failures) or not all(scored), found]


def build_report(
    source: Source,
    analysis: Analysis,
    installation: Installation,
    *,
    edition: Edition,
    form: ReportForm,
) -> Dataset:
    """Write an analysis as an SR.

    Parameters
    ----------
    source : Source
        The image.
    analysis : Analysis
        At least one model succeeded or failed.
    installation : Installation
        Who writes.
    edition : Edition
        Which version it is, and what it replaces.
    form : ReportForm
        Its SOP class.
    """
    image = stand_in(source)
    uid = report_uid(analysis, edition, form)
    algorithms = algorithms_of(analysis)
    content = sr.MeasurementReport(
        observation_context=_observer(installation),
        procedure_reported=concept(codes.IMAGING_PROCEDURE),
        imaging_measurements=measurement_groups(source, analysis, uid),
        referenced_images=[image] if source.facts.rows else None,
    )
    content[0].ContentSequence.append(_summary(analysis, edition))
    [root] = content
    report = Document(
        image=image,
        content=root,
        sop_class_uid=SOP_CLASSES[form],
        series_instance_uid=report_series_uid(analysis, form),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uid,
        instance_number=edition.version,
        series_description=series_description("report", algorithms, source),
        coding_schemes=[
            hd.coding_schemes.CodingSchemeIdentificationItem(
                designator=codes.PRIVATE_SCHEME,
                name=codes.PRIVATE_SCHEME_NAME,
                responsible_organization=installation.manufacturer,
            )
        ],
        predecessors=predecessors(edition, form),
        equipment=equipment(algorithms),
        specific_character_set=UNICODE,
        **writer(installation),
    )
    finish(report, source)
    empty_failed_values(report)
    return report


def algorithms_of(analysis: Analysis) -> list[Algorithm]:
    """Return the models that spoke or should have spoken, in the order of the report."""
    spoken = [quality.algorithm for quality in analysis.qualities]
    spoken += [segmentation.algorithm for segmentation in analysis.segmentations]
    spoken += [failure.algorithm for failure in analysis.failures]
    return list(dict.fromkeys(spoken))


def _observer(installation: Installation) -> sr.ObservationContext:
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=dicom_codes.DCM.Device,
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=installation.uid,
                name=installation.manufacturer,
                manufacturer_name=installation.manufacturer,
                model_name=installation.manufacturer,
                serial_number=installation.serial,
            ),
        )
    )


def _summary(analysis: Analysis, edition: Edition) -> sr.ContainerContentItem:
    """TID 1500 row 12: how it went as a whole, and a sentence for the reader on each model."""
    container = sr.ContainerContentItem(
        name=concept(codes.QUALITATIVE_EVALUATIONS),
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    container.ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(
                name=concept(codes.FINDINGS_SUMMARY),
                value=concept(outcome(analysis)),
                relationship_type=sr.RelationshipTypeValues.CONTAINS,
            ),
            *(_comment(sentence) for sentence in sentences(analysis, edition)),
        ]
    )
    return container


def sentences(analysis: Analysis, edition: Edition) -> list[str]:
    """Say in words what is new, what each model found or could not score, and why one failed."""
    said = [_NEW_REVISION.format(edition.study_revision)] if edition.study_revision > 1 else []
    said += [_NEW_VERSION.format(edition.version)] if edition.version > 1 else []
    said += [_not_scored(quality) for quality in analysis.qualities if unscored(quality)]
    said += [_found(segmentation) for segmentation in analysis.segmentations]
    return said + [_failed(failure) for failure in analysis.failures]


def _not_scored(quality: QualityScores) -> str:
    model = f"{quality.algorithm.name} {quality.algorithm.version}"
    frames = ", ".join(map(str, unscored(quality)))
    return shortened(f"{model}: the model gave no number for frames {frames}", _COMMENT_LENGTH)


def _found(segmentation: Segmentation) -> str:
    model = f"{segmentation.algorithm.name} {segmentation.algorithm.version}"
    analysed = f"frames analysed: {len(segmentation.frames)}"
    found = {
        segment.type.meaning: int((segmentation.label_map == segment.value).any((1, 2)).sum())
        for segment in segmentation.segments
    }
    words = ", ".join(f"{meaning} in {count}" for meaning, count in found.items() if count)
    return shortened(
        f"{model}: {words or 'nothing found; looked for ' + ', '.join(found)}; {analysed}",
        _COMMENT_LENGTH,
    )


def _failed(failure: FailedAnalysis) -> str:
    model = f"{failure.algorithm.name} {failure.algorithm.version}"
    return shortened(f"{model}: {failure.task.value} failed: {failure.reason}", _COMMENT_LENGTH)


def _comment(sentence: str) -> sr.TextContentItem:
    return sr.TextContentItem(
        name=concept(codes.COMMENT),
        value=sentence,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )

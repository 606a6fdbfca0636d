"""The forms that a SEG or an SR can have; each destination names the one of each that it takes.

Each form is an object of its own in a series of its own. The first of each kind keeps the UIDs that
it had when there was no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dicom_node.config import AnyDestination
from dicom_node.records import Result, ResultKind


class SegmentationForm(StrEnum):
    """Geometry and encoding of a SEG."""

    #: orientation and spacing but no frame of reference: the one that most viewers show
    HYBRID = "hybrid"
    #: planes at invented positions in an invented frame of reference: 3D Slicer reads no other
    NOMINAL = "nominal"
    #: as hybrid, in Label Map Segmentation Storage: one value a pixel, one frame a source frame
    LABELMAP = "labelmap"


class ReportForm(StrEnum):
    """SOP class of an SR; the content is the same in all."""

    COMPREHENSIVE_3D = "comprehensive_3d"
    COMPREHENSIVE = "comprehensive"
    ENHANCED = "enhanced"


SOP_CLASSES: Final[dict[SegmentationForm | ReportForm, str]] = {
    SegmentationForm.HYBRID: "1.2.840.10008.5.1.4.1.1.66.4",
    SegmentationForm.NOMINAL: "1.2.840.10008.5.1.4.1.1.66.4",
    SegmentationForm.LABELMAP: "1.2.840.10008.5.1.4.1.1.66.7",
    ReportForm.COMPREHENSIVE_3D: "1.2.840.10008.5.1.4.1.1.88.34",
    ReportForm.COMPREHENSIVE: "1.2.840.10008.5.1.4.1.1.88.33",
    ReportForm.ENHANCED: "1.2.840.10008.5.1.4.1.1.88.22",
}


@dataclass(frozen=True, kw_only=True)
class Forms:
    """What is written of each result."""

    segmentations: tuple[SegmentationForm, ...] = (SegmentationForm.HYBRID,)
    reports: tuple[ReportForm, ...] = (ReportForm.COMPREHENSIVE_3D,)


DEFAULT_FORMS: Final = Forms()
_DEFAULTS: Final = {*DEFAULT_FORMS.segmentations, *DEFAULT_FORMS.reports}


def asked_forms(destinations: Iterable[AnyDestination]) -> Forms:
    """Return the forms that some destination takes; of a kind that none takes, the default."""
    wanted = list(destinations)
    segmentations = {d.segmentation for d in wanted if ResultKind.SEG.value in d.send}
    reports = {d.report for d in wanted if ResultKind.SR.value in d.send}
    return Forms(
        segmentations=tuple(f for f in SegmentationForm if f.value in segmentations)
        or DEFAULT_FORMS.segmentations,
        reports=tuple(f for f in ReportForm if f.value in reports) or DEFAULT_FORMS.reports,
    )


def classes_of_forms(destination: AnyDestination) -> dict[ResultKind, str]:
    """Return the SOP classes of a SEG and of an SR in the forms that a destination takes."""
    return {
        ResultKind.SEG: SOP_CLASSES[SegmentationForm(destination.segmentation)],
        ResultKind.SR: SOP_CLASSES[ReportForm(destination.report)],
    }


def has_form(result: Result, destination: AnyDestination) -> bool:
    """Tell whether a result has the form that a destination takes; some kinds have but one."""
    forms = {ResultKind.SEG: destination.segmentation, ResultKind.SR: destination.report}
    return result.form == forms.get(result.kind, result.form)


def kind_in_uids(kind: str, form: SegmentationForm | ReportForm) -> str:
    """Return the first part of a derived UID: the kind, and any form but the default."""
    return kind if form in _DEFAULTS else f"{kind} {form.value}"

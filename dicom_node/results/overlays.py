"""Which objects an analysis can give, and the writing of those that are drawn over the picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dicom_node import log
from dicom_node.errors import PixelError, ResultError, UnreadableError
from dicom_node.forms import DEFAULT_FORMS, SOP_CLASSES
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, Edition, Result, ResultKind
from dicom_node.results.capture import build_capture, capture_class
from dicom_node.results.installation import Installation
from dicom_node.results.overlay import overlay_series_uid, overlay_uid
from dicom_node.results.overlay_gate import capture_faults, presentation_faults
from dicom_node.results.picture import Pictures
from dicom_node.results.presentation import build_presentation, presentation_class
from dicom_node.results.source import Source, odd_values_allowed, read_source
from dicom_node.results.write import Plan, write_plan


@dataclass(frozen=True, kw_only=True)
class Overlays:
    """Which of presentation state and Secondary Capture are written."""

    kinds: frozenset[ResultKind]
    #: decodes the frames that a capture shows
    sandbox: PixelSandbox


def classes_of(analysis: Analysis) -> dict[ResultKind, str]:
    """Return the kinds of objects that an analysis can give, with the SOP class of each.

    A SEG and an SR have that of their default form.
    """
    if not (analysis.segmentations or analysis.qualities or analysis.failures):
        return {}
    classes = {ResultKind.SR: SOP_CLASSES[DEFAULT_FORMS.reports[0]]}
    if any(not segmentation.is_empty for segmentation in analysis.segmentations):
        classes[ResultKind.SEG] = SOP_CLASSES[DEFAULT_FORMS.segmentations[0]]
    if not analysis.facts.rows:  # nothing can be drawn over an image that cannot be read
        return classes
    try:
        classes[ResultKind.PR] = presentation_class(analysis.instance)
    except UnreadableError:
        return classes
    return classes | {ResultKind.SC: capture_class(analysis)}


def write_overlays(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    overlays: Overlays,
) -> tuple[Result, ...]:
    """Write what the models said of one image as presentation state and Secondary Capture.

    What cannot be written, or does not pass the gate, is left out and the log has the reason: SEG
    and SR say the same.

    Parameters
    ----------
    analysis : Analysis
        Of one image.
    folder : Path
        As in `write_results`.
    installation : Installation
        Who writes.
    edition : Edition
        Which version of what is said of the image it is.
    overlays : Overlays
        Which are wanted.
    """
    classes = classes_of(analysis)
    wanted = [kind for kind in _PLANS if kind in overlays.kinds and kind in classes]
    if not wanted:
        return ()
    source = read_source(analysis.instance, analysis.facts)
    written = []
    for kind in wanted:
        plan = _PLANS[kind](source, analysis, installation, edition, overlays.sandbox)
        try:
            with odd_values_allowed():
                written.append(write_plan(plan, source, folder, edition))
        except (PixelError, ResultError, UnreadableError) as exc:
            uid = analysis.instance.sop_instance_uid
            log.get("results").error("result rejected", sop_instance_uid=uid, reason=str(exc))
    return tuple(written)


def _presentation_plan(
    source: Source,
    analysis: Analysis,
    installation: Installation,
    edition: Edition,
    _: PixelSandbox,
) -> Plan:
    return Plan(
        kind=ResultKind.PR,
        form="",
        sop_class_uid=presentation_class(analysis.instance),
        sop_instance_uid=overlay_uid(ResultKind.PR, analysis, edition),
        series_instance_uid=overlay_series_uid(ResultKind.PR, analysis),
        build=partial(build_presentation, source, analysis, installation, edition=edition),
        faults=partial(presentation_faults, source=source, analysis=analysis, edition=edition),
    )


def _capture_plan(
    source: Source,
    analysis: Analysis,
    installation: Installation,
    edition: Edition,
    sandbox: PixelSandbox,
) -> Plan:
    pictures = Pictures(analysis, edition, sandbox)
    return Plan(
        kind=ResultKind.SC,
        form="",
        sop_class_uid=capture_class(analysis),
        sop_instance_uid=overlay_uid(ResultKind.SC, analysis, edition),
        series_instance_uid=overlay_series_uid(ResultKind.SC, analysis),
        build=partial(
            build_capture, source, analysis, installation, edition=edition, pictures=pictures
        ),
        faults=partial(
            capture_faults, source=source, analysis=analysis, edition=edition, pictures=pictures
        ),
    )


#: In the order in which they are written.
_PLANS: dict[
    ResultKind,
    Callable[[Source, Analysis, Installation, Edition, PixelSandbox], Plan],
] = {ResultKind.PR: _presentation_plan, ResultKind.SC: _capture_plan}

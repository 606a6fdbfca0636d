"""What is said of an image whose results must not leave."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dicom_node import log
from dicom_node.errors import ResultError, UnreadableError
from dicom_node.forms import DEFAULT_FORMS, Forms, ReportForm, SegmentationForm
from dicom_node.records import Analysis, Edition, FailedAnalysis, Result, Task
from dicom_node.results.installation import Installation
from dicom_node.results.overlays import Overlays, write_overlays
from dicom_node.results.write import write_results


class Written(NamedTuple):
    """What may leave."""

    results: tuple[Result, ...]
    #: why results of the analysis, or a form of them, may not leave, "" when all may
    rejected: str


class _Place(NamedTuple):
    """Where results are written, by whom, as what."""

    folder: Path
    installation: Installation
    edition: Edition


def write_results_or_failure(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    overlays: Overlays,
    forms: Forms = DEFAULT_FORMS,
) -> Written:
    """Write the results; when one does not pass the gate, a report that the analysis failed.

    Where several forms are asked for, those that pass leave without the one that does not.

    Parameters are those of `write_results` and of `write_overlays`, which say what the report does;
    an image in no study has no place for a report, and the log has the reason.
    """
    place = _Place(folder, installation, edition)
    try:
        return Written(_write(analysis, place, forms, overlays), "")
    except (ResultError, UnreadableError) as exc:
        uid = analysis.instance.sop_instance_uid
        rejected = str(exc)
        log.get("results").error("result rejected", sop_instance_uid=uid, reason=rejected)
    sound, faults = _sound(analysis, place, forms)
    try:
        if sound is not None:
            return Written(_write(analysis, place, sound, overlays), "; ".join(faults))
        return Written(_write(_as_failure(analysis), place, forms, overlays), rejected)
    except (ResultError, UnreadableError):
        return Written((), rejected)


def _write(
    analysis: Analysis, place: _Place, forms: Forms, overlays: Overlays
) -> tuple[Result, ...]:
    written = _write_forms(analysis, place, forms)
    return written + write_overlays(
        analysis,
        place.folder,
        installation=place.installation,
        edition=place.edition,
        overlays=overlays,
    )


def _write_forms(analysis: Analysis, place: _Place, forms: Forms) -> tuple[Result, ...]:
    return write_results(
        analysis,
        place.folder,
        installation=place.installation,
        edition=place.edition,
        forms=forms,
    )


def _sound(analysis: Analysis, place: _Place, forms: Forms) -> tuple[Forms | None, list[str]]:
    """Return the forms that pass, None where a kind has none, and what is wrong with the others.

    Each is written by itself; what was written before is only looked through again.
    """
    faults: list[str] = []
    if len(forms.segmentations) == len(forms.reports) == 1:
        return None, faults

    def passes(form: SegmentationForm | ReportForm, alone: Forms) -> bool:
        try:
            _write_forms(analysis, place, alone)
        except (ResultError, UnreadableError) as exc:
            faults.append(f"{form.value}: {exc}")
            return False
        return True

    sound = Forms(
        segmentations=tuple(
            form
            for form in forms.segmentations
            if passes(form, Forms(segmentations=(form,), reports=()))
        ),
        reports=tuple(
            form for form in forms.reports if passes(form, Forms(segmentations=(), reports=(form,)))
        ),
    )
    return (sound if sound.segmentations and sound.reports else None), faults


def _as_failure(analysis: Analysis) -> Analysis:
    spoke = [(said.algorithm, Task.SEGMENTATION) for said in analysis.segmentations]
    spoke += [(said.algorithm, Task.QUALITY) for said in analysis.qualities]
    rejected = tuple(
        FailedAnalysis(algorithm=algorithm, task=task, reason="its result did not pass the gate")
        for algorithm, task in spoke
    )
    return replace(
        analysis, segmentations=(), qualities=(), failures=(*analysis.failures, *rejected)
    )

"""What is said of an image whose results must not leave."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dicom_node import log
from dicom_node.errors import ResultError, UnreadableError
from dicom_node.forms import DEFAULT_FORMS, Forms
from dicom_node.records import Analysis, Edition, FailedAnalysis, Result, Task
from dicom_node.results.installation import Installation
from dicom_node.results.overlays import Overlays, write_overlays
from dicom_node.results.write import write_results


class Written(NamedTuple):
    """What may leave."""

    results: tuple[Result, ...]
    #: why the results of the analysis may not leave, "" when they may
    rejected: str


class _Wanted(NamedTuple):
    forms: Forms
    overlays: Overlays


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

    Parameters are those of `write_results` and of `write_overlays`, which say what the report does;
    an image in no study has no place for a report, and the log has the reason.
    """
    wanted = _Wanted(forms, overlays)
    write = partial(
        _write, folder=folder, installation=installation, edition=edition, wanted=wanted
    )
    try:
        return Written(write(analysis), "")
    except (ResultError, UnreadableError) as exc:
        uid = analysis.instance.sop_instance_uid
        rejected = str(exc)
        log.get("results").error("result rejected", sop_instance_uid=uid, reason=rejected)
    try:
        return Written(write(_as_failure(analysis)), rejected)
    except (ResultError, UnreadableError):
        return Written((), rejected)


def _write(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    wanted: _Wanted,
) -> tuple[Result, ...]:
    written = write_results(
        analysis, folder, installation=installation, edition=edition, forms=wanted.forms
    )
    return written + write_overlays(
        analysis, folder, installation=installation, edition=edition, overlays=wanted.overlays
    )


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

"""What is said of an image whose results must not leave."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from dicom_node import log
from dicom_node.errors import ResultError, UnreadableError
from dicom_node.records import Analysis, Edition, FailedAnalysis, Result, Task
from dicom_node.results.installation import Installation
from dicom_node.results.overlays import Overlays, write_overlays
from dicom_node.results.write import write_results


def write_results_or_failure(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    overlays: Overlays,
) -> tuple[Result, ...]:
    """Write the results; when one does not pass the gate, a report that the analysis failed.

    Parameters and return value are those of `write_results` and of `write_overlays`, which say what
    the report does; an image in no study has no place for a report, and the log has the reason.
    """
    write = partial(
        _write, folder=folder, installation=installation, edition=edition, overlays=overlays
    )
    try:
        return write(analysis)
    except (ResultError, UnreadableError) as exc:
        uid = analysis.instance.sop_instance_uid
        log.get("results").error("result rejected", sop_instance_uid=uid, reason=str(exc))
    try:
        return write(_as_failure(analysis))
    except (ResultError, UnreadableError):
        return ()


def _write(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    overlays: Overlays,
) -> tuple[Result, ...]:
    written = write_results(analysis, folder, installation=installation, edition=edition)
    return written + write_overlays(
        analysis, folder, installation=installation, edition=edition, overlays=overlays
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

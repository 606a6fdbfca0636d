"""Write results durably; what does not pass the gate does not stay."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.records import Analysis, Result, ResultKind, Segmentation
from dicom_node.results.gate import report_faults, segmentation_faults
from dicom_node.results.installation import Installation
from dicom_node.results.report import build_report, report_uid
from dicom_node.results.segmentation import build_segmentation, segmentation_uid
from dicom_node.results.source import Source, odd_values_allowed, read_source

_SOP_CLASSES: Final = {
    ResultKind.SEG: "1.2.840.10008.5.1.4.1.1.66.4",
    ResultKind.SR: "1.2.840.10008.5.1.4.1.1.88.34",
}
#: What highdicom raises on a value that it does not take.
_REFUSALS: Final = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """An object to be: what it is called, how it is made, how it is looked through."""

    kind: ResultKind
    sop_instance_uid: str
    build: Callable[[], Dataset]
    faults: Callable[[Path], list[str]]


def write_results(
    analysis: Analysis, folder: Path, *, installation: Installation
) -> tuple[Result, ...]:
    """Write what the models said of one image as SEG and SR.

    A segmentation model that found nothing gets no SEG; the SR says so. The same analysis gives the
    same UIDs, and an object that already waits in the folder and passes the gate is left as it is.

    Parameters
    ----------
    analysis : Analysis
        Of one image.
    folder : Path
        Must exist; ``<SOP Instance UID>.dcm`` is written into it, whole or not at all.
    installation : Installation
        Who writes.

    Returns
    -------
    tuple of Result
        The SEGs, then the SR; empty when no model spoke.

    Raises
    ------
    ResultError
        When the image is in no study, or an object was refused by highdicom or by the gate. A
        refused object is kept, with the reasons, in ``folder/rejected``.
    UnreadableError
        When the header of the image cannot be read.
    """
    if not (analysis.segmentations or analysis.qualities or analysis.failures):
        return ()
    source = read_source(analysis.instance, analysis.facts)
    plans = [
        _segmentation_plan(source, segmentation, installation)
        for segmentation in analysis.segmentations
        if not segmentation.is_empty
    ]
    plans.append(_report_plan(source, analysis, installation))
    with odd_values_allowed():
        return tuple(_written(plan, source, folder) for plan in plans)


def _segmentation_plan(
    source: Source, segmentation: Segmentation, installation: Installation
) -> _Plan:
    return _Plan(
        kind=ResultKind.SEG,
        sop_instance_uid=segmentation_uid(source, segmentation),
        build=partial(build_segmentation, source, segmentation, installation),
        faults=partial(segmentation_faults, source=source, segmentation=segmentation),
    )


def _report_plan(source: Source, analysis: Analysis, installation: Installation) -> _Plan:
    return _Plan(
        kind=ResultKind.SR,
        sop_instance_uid=report_uid(analysis),
        build=partial(build_report, source, analysis, installation),
        faults=partial(report_faults, source=source, analysis=analysis),
    )


def _written(plan: _Plan, source: Source, folder: Path) -> Result:
    path = folder / f"{plan.sop_instance_uid}.dcm"
    if not path.exists() or plan.faults(path):
        part = path.with_name(f"{path.name}.part")
        _save(plan, part)
        faults = plan.faults(part)
        if faults:
            path.unlink(missing_ok=True)
            _reject(part, folder / "rejected" / path.name, faults)
            raise ResultError(
                f"the {plan.kind.value.upper()} did not pass the gate: {'; '.join(faults)}; "
                f"kept as rejected/{path.name}"
            )
        part.rename(path)
        _sync_folder(folder)
    return Result(
        kind=plan.kind,
        sop_instance_uid=plan.sop_instance_uid,
        sop_class_uid=_SOP_CLASSES[plan.kind],
        study_instance_uid=source.instance.study_instance_uid,
        source_sop_instance_uid=source.instance.sop_instance_uid,
        path=path,
    )


def _save(plan: _Plan, part: Path) -> None:
    try:
        dataset = plan.build()
        with part.open("wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
    except _REFUSALS as exc:
        part.unlink(missing_ok=True)
        # its text may quote the header
        raise ResultError(
            f"the {plan.kind.value.upper()} cannot be written ({type(exc).__name__})"
        ) from None


def _reject(part: Path, target: Path, faults: list[str]) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    part.rename(target)
    target.with_suffix(".txt").write_text("\n".join((*faults, "")), "utf-8")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

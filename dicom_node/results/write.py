"""Write results durably; what does not pass the gate does not stay."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.forms import (
    DEFAULT_FORMS,
    SOP_CLASSES,
    Forms,
    ReportForm,
    SegmentationForm,
)
from dicom_node.records import (
    FIRST_EDITION,
    Analysis,
    Edition,
    Merging,
    Result,
    ResultKind,
    Segmentation,
)
from dicom_node.results.disk import sync_folder
from dicom_node.results.gate import report_faults, segmentation_faults
from dicom_node.results.installation import Installation
from dicom_node.results.masks import mask_of, write_mask
from dicom_node.results.report import build_report, report_series_uid, report_uid
from dicom_node.results.segmentation import (
    build_segmentation,
    segment_numbers,
    segmentation_series_uid,
    segmentation_uid,
    stills_series_uid,
)
from dicom_node.results.source import Source, odd_values_allowed, read_source

#: Label maps of the stills of one SEG take at most so much memory, as those of a cine do.
STILLS_BUDGET_BYTES: Final = 192 * 2**20
#: What highdicom raises on a value that it does not take.
_REFUSALS: Final = (AttributeError, LookupError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An object to be: what it is called, how it is made, how it is looked through."""

    kind: ResultKind
    form: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    build: Callable[[], Dataset]
    faults: Callable[[Path], list[str]]
    #: of the SEG of a still: what it goes out with, and what is kept until then
    merging: Merging | None = None
    mask: Segmentation | None = None


def write_results(
    analysis: Analysis,
    folder: Path,
    *,
    installation: Installation,
    edition: Edition = FIRST_EDITION,
    forms: Forms = DEFAULT_FORMS,
) -> tuple[Result, ...]:
    """Write what the models said of one image as SEG and SR.

    A segmentation model that found nothing gets no SEG; the SR says so. Of a still its mask is kept
    for the SEG that `write_stills` makes. The same analysis gives the same UIDs, and an object that
    already waits in the folder and passes the gate is left as it is.

    Parameters
    ----------
    analysis : Analysis
        Of one image.
    folder : Path
        Must exist; ``<SOP Instance UID>.dcm`` is written into it, whole or not at all, and the mask
        of a still as ``folder/stills/<SOP Instance UID>.npz``.
    installation : Installation
        Who writes.
    edition : Edition
        Which version of what is said of the image it is. A later one has UIDs of its own and stands
        in the series of the one before.
    forms : Forms
        Which forms each object is written in.

    Returns
    -------
    tuple of Result
        The SEGs, then the SRs; empty when no model spoke. The file of a SEG that is merged is not
        there.

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
        replace(
            segmentation_plan(
                source,
                segmentation,
                installation,
                edition=edition,
                series_instance_uid=segmentation_series_uid(source, model, form),
                form=form,
            ),
            merging=None if edition.is_shadow else _merging(source, segmentation, model, form),
            mask=segmentation,
        )
        for segmentation, model in zip(analysis.segmentations, _models(analysis), strict=True)
        if not segmentation.is_empty
        for form in forms.segmentations
    ]
    plans += [_report_plan(source, analysis, installation, edition, form) for form in forms.reports]
    with odd_values_allowed():
        return tuple(_written(plan, source, folder, edition) for plan in plans)


def _models(analysis: Analysis) -> list[str]:
    """Name the models whose versions share a series; two of one name at once are two models."""
    algorithms = [segmentation.algorithm for segmentation in analysis.segmentations]
    names = Counter(algorithm.name for algorithm in algorithms)
    return [
        algorithm.name if names[algorithm.name] == 1 else f"{algorithm.name}\0{algorithm.version}"
        for algorithm in algorithms
    ]


def _merging(
    source: Source, segmentation: Segmentation, model: str, form: SegmentationForm
) -> Merging | None:
    """Return what the SEG of a still is merged into; that of a cine goes by itself."""
    if source.facts.number_of_frames > 1:
        return None
    return Merging(
        series_instance_uid=stills_series_uid(source, model, form),
        digest=segmentation.algorithm.digest,
        most=max(1, STILLS_BUDGET_BYTES // (source.facts.rows * source.facts.columns)),
    )


def segmentation_plan(
    source: Source,
    segmentation: Segmentation,
    installation: Installation,
    *,
    edition: Edition,
    series_instance_uid: str,
    form: SegmentationForm,
) -> Plan:
    """Plan a SEG; parameters as of `build_segmentation`."""
    return Plan(
        kind=ResultKind.SEG,
        form=form.value,
        sop_class_uid=SOP_CLASSES[form],
        sop_instance_uid=segmentation_uid(source, segmentation, edition, form),
        series_instance_uid=series_instance_uid,
        build=partial(
            build_segmentation,
            source,
            segmentation,
            installation,
            edition=edition,
            series_instance_uid=series_instance_uid,
            form=form,
        ),
        faults=partial(
            segmentation_faults,
            source=source,
            segmentation=segmentation,
            edition=edition,
            form=form,
        ),
    )


def _report_plan(
    source: Source,
    analysis: Analysis,
    installation: Installation,
    edition: Edition,
    form: ReportForm,
) -> Plan:
    return Plan(
        kind=ResultKind.SR,
        form=form.value,
        sop_class_uid=SOP_CLASSES[form],
        sop_instance_uid=report_uid(analysis, edition, form),
        series_instance_uid=report_series_uid(analysis, form),
        build=partial(build_report, source, analysis, installation, edition=edition, form=form),
        faults=partial(report_faults, source=source, analysis=analysis, edition=edition, form=form),
    )


def _written(plan: Plan, source: Source, folder: Path, edition: Edition) -> Result:
    if plan.merging is None or plan.mask is None:
        return write_plan(plan, source, folder, edition)
    segment_numbers(source.facts, plan.mask)  # raises now rather than when it is merged
    path = folder / f"{plan.sop_instance_uid}.dcm"
    write_mask(mask_of(path), plan.mask)
    return _result(plan, source, path, edition)


def write_plan(plan: Plan, source: Source, folder: Path, edition: Edition) -> Result:
    """Write one object, unless it is there already; raises as `write_results`."""
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
        sync_folder(folder)
    return _result(plan, source, path, edition)


def _result(plan: Plan, source: Source, path: Path, edition: Edition) -> Result:
    return Result(
        kind=plan.kind,
        sop_instance_uid=plan.sop_instance_uid,
        sop_class_uid=plan.sop_class_uid,
        study_instance_uid=source.instance.study_instance_uid,
        source_sop_instance_uid=source.instance.sop_instance_uid,
        path=path,
        series_instance_uid=plan.series_instance_uid,
        version=edition.version,
        supersedes=_replaced(plan, edition),
        form=plan.form,
        merging=plan.merging,
    )


def _replaced(plan: Plan, edition: Edition) -> str | None:
    """Return the object of the version before in the same series."""
    for earlier in edition.predecessors:
        if earlier.series_instance_uid == plan.series_instance_uid:
            return earlier.sop_instance_uid
    return None


def _save(plan: Plan, part: Path) -> None:
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

"""The SEGs of the stills of a series as one object.

A study may be thirty stills, and a viewer lists each SEG apart. So what one model found in the
stills of a series goes out together: each frame of the object is of one still. What was
found in each waits as a mask until then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from dicom_node.errors import ResultError
from dicom_node.forms import SegmentationForm
from dicom_node.pixels.facts import read_facts
from dicom_node.records import (
    Edition,
    ImageFacts,
    Instance,
    Result,
    Segmentation,
)
from dicom_node.results.installation import Installation
from dicom_node.results.masks import mask_of, read_mask
from dicom_node.results.segmentation import compression_of
from dicom_node.results.source import Source, odd_values_allowed, read_source
from dicom_node.results.uids import derived_uid
from dicom_node.results.write import segmentation_plan, write_plan

_MODEL: Final = "sha256="
_PATIENT: Final = ("PatientID", "IssuerOfPatientID")


@dataclass(frozen=True, kw_only=True)
class Part:
    """What was found in one still."""

    instance: Instance
    #: its SEG, which is not written; with `form`
    result: Result


@dataclass(frozen=True, kw_only=True)
class _Mask:
    """A still, and what was found in it."""

    source: Source
    said: Segmentation


def stills_uid(parts: Iterable[str]) -> str:
    """Return a name for the stack of stills whose SEGs have these SOP Instance UIDs.

    Those follow from images, bytes, model, version and form, and so does what is made of the stack.
    """
    return derived_uid("stills", *sorted(parts))


def write_stills(
    parts: Sequence[Part],
    folder: Path,
    *,
    installation: Installation,
    edition: Edition,
    series_instance_uid: str,
    form: SegmentationForm,
) -> Result:
    """Write what was found in stills as one SEG.

    Parameters
    ----------
    parts : sequence of Part
        Of one model and one form, of images of one series and one size; not empty.
    folder : Path
        As in `write_results`.
    installation : Installation
        Who writes.
    edition : Edition
        Which version of the object it is.
    series_instance_uid : str
        Its series.
    form : SegmentationForm
        That of the parts.

    Raises
    ------
    ResultError
        When the parts do not fit together, or the object did not pass the gate, as in
        `write_results`.
    UnreadableError
        When the header of an image cannot be read.
    """
    with odd_values_allowed():
        masks = sorted((_read(part) for part in parts), key=_place)
        said = _segmentation(masks)
        stack = _stack(
            [mask.source for mask in masks], stills_uid(p.result.sop_instance_uid for p in parts)
        )
        plan = segmentation_plan(
            stack,
            said,
            installation,
            edition=edition,
            series_instance_uid=series_instance_uid,
            form=form,
        )
        result = write_plan(plan, stack, folder, edition)
    images = tuple(still.instance.sop_instance_uid for still in stack.stills)
    return replace(result, source_sop_instance_uid="", images=images)


def write_still(part: Part, folder: Path, *, installation: Installation) -> None:
    """Write the SEG of one still, which is not merged.

    Parameters
    ----------
    part : Part
        The still.
    folder : Path
        As in `write_results`.
    installation : Installation
        Who writes.

    Raises
    ------
    ResultError, UnreadableError
        As `write_stills`.
    """
    mask, result = _read(part), part.result
    edition = Edition(version=result.version)
    with odd_values_allowed():
        plan = segmentation_plan(
            mask.source,
            mask.said,
            installation,
            edition=edition,
            series_instance_uid=result.series_instance_uid,
            form=SegmentationForm(result.form),
        )
        write_plan(plan, mask.source, folder, edition)


def _place(mask: _Mask) -> tuple[int, str]:
    """Return what stills are sorted by: their number, and those of none come first."""
    source = mask.source
    return int(source.number or 0), source.instance.sop_instance_uid


def _read(part: Part) -> _Mask:
    return _Mask(
        source=read_source(part.instance, read_facts(part.instance.path)),
        said=read_mask(mask_of(part.result.path)),
    )


def _segmentation(masks: Sequence[_Mask]) -> Segmentation:
    """Return the label maps of all, a frame each."""
    first = masks[0].said
    same = [(mask.said.algorithm, mask.said.segments, mask.said.label_map.shape) for mask in masks]
    if len({*same}) > 1:
        raise ResultError("SEGs of stills that differ in model, segments or size are not one")
    return replace(
        first,
        frames=tuple(range(1, len(masks) + 1)),
        label_map=np.concatenate([mask.said.label_map for mask in masks]),  # (N, R, C)
    )


def _stack(stills: Sequence[Source], uid: str) -> Source:
    """Return what a SEG of the stills is written of: an image that nobody has, of all of them."""
    first = stills[0]
    if len({tuple(still.patient_and_study.get(key) for key in _PATIENT) for still in stills}) > 1:
        raise ResultError("stills that name several patients do not go into one SEG")
    described = [compression_of(still) for still in stills]
    lossy = [n for n, said in enumerate(described) if said.get("LossyImageCompression") == "01"]
    chosen = lossy or range(len(stills))
    told = set.intersection(*({*described[n].items()} for n in chosen))
    syntax = stills[chosen[0]].instance.transfer_syntax_uid
    return replace(
        first,
        instance=replace(
            first.instance, sop_instance_uid=uid, sha256="", transfer_syntax_uid=syntax
        ),
        facts=_facts(stills, syntax),
        compression=MappingProxyType(dict(told)),
        number="",
        stills=tuple(stills),
    )


def _facts(stills: Sequence[Source], transfer_syntax_uid: str) -> ImageFacts:
    """Return the facts of a stack; spacings that differ are no spacing."""
    spacings = {still.facts.spacing_mm for still in stills}
    return replace(
        stills[0].facts,
        number_of_frames=len(stills),
        transfer_syntax_uid=transfer_syntax_uid,
        region=None,
        spacing_mm=spacings.pop() if len(spacings) == 1 else None,
    )

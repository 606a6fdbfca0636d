"""The SEGs of the stills of a series as one object.

A study may be thirty stills, and a viewer lists each SEG apart. So what one model found in the
stills of a series goes out together: each frame of the object is of one still. The masks are read
from the SEG of each, which passed the gate before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.forms import SegmentationForm
from dicom_node.header import BROKEN_BYTES
from dicom_node.pixels.facts import read_facts
from dicom_node.records import (
    Algorithm,
    CodedConcept,
    Edition,
    ImageFacts,
    Instance,
    Result,
    Segment,
    Segmentation,
)
from dicom_node.results.installation import Installation
from dicom_node.results.segmentation import compression_of
from dicom_node.results.source import Source, odd_values_allowed, read_source
from dicom_node.results.uids import derived_uid
from dicom_node.results.write import segmentation_plan, write_plan

_MODEL: Final = "sha256="
_PATIENT: Final = ("PatientID", "IssuerOfPatientID")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The SEG of one still."""

    instance: Instance
    sop_instance_uid: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class _Mask:
    """A still, and what was found in it."""

    source: Source
    algorithm: Algorithm
    segments: tuple[Segment, ...]
    #: Segment Number by pixel, (R, C)
    labels: NDArray[np.uint8]


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
    """Write the SEGs of stills as one object.

    Parameters
    ----------
    parts : sequence of Part
        SEGs of one model and one form, of images of one series and one size; not empty.
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
            [mask.source for mask in masks], stills_uid(p.sop_instance_uid for p in parts)
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


def _place(mask: _Mask) -> tuple[int, str]:
    """Return what stills are sorted by: their number, and those of none come first."""
    source = mask.source
    return int(source.number or 0), source.instance.sop_instance_uid


def _read(part: Part) -> _Mask:
    source = read_source(part.instance, read_facts(part.instance.path))
    try:
        seg = hd.seg.segread(part.path)
        [labels] = seg.get_pixels_by_source_instance(
            [source.instance.sop_instance_uid], combine_segments=True, ignore_spatial_locations=True
        )
        # a label map names its background, which no model found
        items = [item for item in seg.SegmentSequence if int(item.SegmentNumber)]
        return _Mask(
            source=source,
            algorithm=_algorithm(items[0]),
            segments=tuple(_segment(item) for item in items),
            labels=labels.astype(np.uint8),
        )
    except BROKEN_BYTES as exc:
        cause = type(exc).__name__  # its text may quote the header
        raise ResultError(f"the SEG of a still, {part.path.name}, is not read ({cause})") from None


def _algorithm(item: Dataset) -> Algorithm:
    [said] = item.SegmentationAlgorithmIdentificationSequence
    return Algorithm(
        name=str(said.AlgorithmName),
        version=str(said.AlgorithmVersion),
        manufacturer=str(said.get("AlgorithmSource") or ""),
        digest=str(said.AlgorithmParameters).rpartition(_MODEL)[2],
    )


def _segment(item: Dataset) -> Segment:
    return Segment(
        value=int(item.SegmentNumber),
        category=_concept(item.SegmentedPropertyCategoryCodeSequence),
        type=_concept(item.SegmentedPropertyTypeCodeSequence),
    )


def _concept(sequence: Sequence[Dataset]) -> CodedConcept:
    code = hd.sr.CodedConcept.from_dataset(sequence[0])
    return CodedConcept(value=code.value, scheme=code.scheme_designator, meaning=code.meaning)


def _segmentation(masks: Sequence[_Mask]) -> Segmentation:
    """Return the label maps of all, a frame each."""
    first = masks[0]
    same = [(mask.algorithm, mask.segments, mask.labels.shape) for mask in masks]
    if len({*same}) > 1:
        raise ResultError("SEGs of stills that differ in model, segments or size are not one")
    return Segmentation(
        algorithm=first.algorithm,
        segments=first.segments,
        frames=tuple(range(1, len(masks) + 1)),
        label_map=np.stack([mask.labels for mask in masks]),  # (N, R, C)
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

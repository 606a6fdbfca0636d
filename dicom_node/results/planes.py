"""Where the planes of a SEG lie.

Ultrasound has no frame of reference: highdicom refuses its cines, and OHIF goes blank on a SEG
without Plane Orientation and Pixel Measures. So a cine is written through a stand-in with an
invented stack of planes, as far apart in mm as their frame numbers are. The nominal form keeps
them; of the others they are removed again, and orientation and spacing stay, as in a still.

Stills that share a SEG are written as the frames of a cine, and each frame is told its still then.
"""

from collections.abc import Sequence
from typing import Final

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.forms import SegmentationForm
from dicom_node.records import ImageFacts
from dicom_node.results.parts import referenced_class
from dicom_node.results.source import Source
from dicom_node.results.uids import derived_uid

_ORIENTATION: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: Written where the scanner calibrated nothing; Content Description says so.
_NOMINAL_SPACING_MM: Final = (1.0, 1.0)
#: highdicom cannot read its own file without one
_THICKNESS_MM: Final = 1.0


def lay_out(
    image: Dataset, source: Source, frames: tuple[int, ...], form: SegmentationForm
) -> None:
    """Give the stand-in the geometry that highdicom needs to write a form.

    Parameters
    ----------
    image : Dataset
        Of `stand_in`.
    source : Source
        What it stands in for.
    frames : tuple of int
        Those that a plane is written of.
    form : SegmentationForm
        What is written.
    """
    if source.facts.number_of_frames > 1:
        _stack_planes(image, source, frames)
    elif form is SegmentationForm.NOMINAL:
        image.FrameOfReferenceUID = _frame_of_reference(source)
        image.ImagePositionPatient = [0.0, 0.0, 0.0]
        image.ImageOrientationPatient = list(_ORIENTATION)
        image.PixelSpacing = list(source.facts.spacing_mm or _NOMINAL_SPACING_MM)
        image.SliceThickness = _THICKNESS_MM


def settle(seg: Dataset, source: Source, frames: tuple[int, ...], form: SegmentationForm) -> None:
    """Put true frame numbers into the references, and leave of the geometry what the form has.

    Parameters are those of `lay_out`, and the SEG that highdicom wrote.
    """
    nominal = form is SegmentationForm.NOMINAL
    if source.facts.number_of_frames > 1:
        _refer_to_frames(seg, frames)
        if not nominal:
            _unstack_planes(seg)
    elif not nominal:
        shared = seg.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", _ORIENTATION)
        shared.PixelMeasuresSequence = _pixel_measures(source.facts)
    if source.stills:
        _refer_to_stills(seg, source.stills)


def _frame_of_reference(source: Source) -> str:
    """Return one for all SEGs of an image: they lie on each other."""
    return derived_uid("frame of reference", source.instance.sop_instance_uid)


def _stack_planes(image: Dataset, source: Source, frames: tuple[int, ...]) -> None:
    """Invent a stack; highdicom sorts along the negative normal, hence descending positions."""
    image.NumberOfFrames = len(frames)
    image.FrameOfReferenceUID = _frame_of_reference(source)
    shared = Dataset()
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", _ORIENTATION)
    shared.PixelMeasuresSequence = _pixel_measures(source.facts)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_plane(frame) for frame in frames]


def _plane(frame: int) -> Dataset:
    plane = Dataset()
    plane.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", (0.0, 0.0, float(1 - frame)))
    return plane


def _refer_to_frames(seg: Dataset, frames: tuple[int, ...]) -> None:
    for reference in _references(seg):
        reference.ReferencedFrameNumber = frames[int(reference.ReferencedFrameNumber) - 1]


def _refer_to_stills(seg: Dataset, stills: Sequence[Source]) -> None:
    """Put the stills in the place of their stack, which is no image that anybody has."""
    for reference in _references(seg):
        still = stills[int(reference.get("ReferencedFrameNumber", 1)) - 1]
        if "ReferencedFrameNumber" in reference:
            del reference.ReferencedFrameNumber
        _refer_to(reference, still)
    [series] = seg.ReferencedSeriesSequence
    for holder, keyword in (
        (series, "ReferencedInstanceSequence"),
        (seg, "SourceImageSequence"),
    ):
        setattr(holder, keyword, [_refer_to(Dataset(), still) for still in stills])


def _refer_to(reference: Dataset, still: Source) -> Dataset:
    reference.ReferencedSOPClassUID = referenced_class(still)
    reference.ReferencedSOPInstanceUID = still.instance.sop_instance_uid
    return reference


def _references(seg: Dataset) -> list[Dataset]:
    """Return what the frames refer to; highdicom shares one item between a plane's segments."""
    found = {
        id(reference): reference
        for item in seg.PerFrameFunctionalGroupsSequence
        for derivation in item.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    }
    return list(found.values())


def _unstack_planes(seg: Dataset) -> None:
    """Put time in the place of the invented positions."""
    del seg.FrameOfReferenceUID
    for keyword in ("PositionReferenceIndicator", "DimensionOrganizationType"):
        if keyword in seg:
            delattr(seg, keyword)
    for item in seg.DimensionIndexSequence:
        if item.DimensionIndexPointer == Tag("ImagePositionPatient"):
            item.DimensionIndexPointer = Tag("TemporalPositionIndex")
            item.FunctionalGroupPointer = Tag("FrameContentSequence")
            item.DimensionDescriptionLabel = "Temporal Position Index"
    shared = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in shared:
        del shared.SpacingBetweenSlices
    for item in seg.PerFrameFunctionalGroupsSequence:
        _index_by_time(item)


def _index_by_time(item: Dataset) -> None:
    frame = int(item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber)
    if "PlanePositionSequence" in item:
        del item.PlanePositionSequence
    content = item.FrameContentSequence[0]
    content.TemporalPositionIndex = frame
    values = content.DimensionIndexValues  # a number where it is the only index
    earlier = [] if isinstance(values, int) else list(values[:-1])
    content.DimensionIndexValues = [*earlier, frame]


def _pixel_measures(facts: ImageFacts) -> hd.PixelMeasuresSequence:
    return hd.PixelMeasuresSequence(
        pixel_spacing=facts.spacing_mm or _NOMINAL_SPACING_MM, slice_thickness=_THICKNESS_MM
    )

"""What the frames of a SEG must say when they are read back."""

from typing import Final

import numpy as np
from highdicom.seg import Segmentation as Seg
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.forms import SegmentationForm
from dicom_node.records import Segmentation
from dicom_node.results.parts import referenced_class
from dicom_node.results.segmentation import segment_numbers
from dicom_node.results.source import Source

#: Read back at once: a long cine whole would take as much memory again.
_FRAMES_AT_ONCE: Final = 32


def frame_faults(
    seg: Seg, source: Source, segmentation: Segmentation, form: SegmentationForm
) -> list[str]:
    """Compare geometry, references to frames, and pixels with the label maps.

    Parameters
    ----------
    seg : highdicom.seg.Segmentation
        As read back.
    source : Source
        The image that it must refer to.
    segmentation : Segmentation
        The label maps that it must hold, voxel for voxel.
    form : SegmentationForm
        What it must be written as.

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    expected = segment_numbers(source.facts, segmentation)  # (N, R, C)
    faults = []
    if ("FrameOfReferenceUID" in seg) != (form is SegmentationForm.NOMINAL):
        faults.append("FrameOfReferenceUID")
    found = {
        (_segment_number(seg, item), *reference_of(reference))
        for item in seg.PerFrameFunctionalGroupsSequence
        for derivation in item.DerivationImageSequence
        for reference in derivation.SourceImageSequence
    }
    places = _places_of(source, segmentation.frames)
    wanted = {
        (number, *place)
        for place, labels in zip(places, expected, strict=True)
        for number in _numbers_in(labels, len(segmentation.segments), form)
    }
    if found != wanted or seg.NumberOfFrames != len(wanted):
        return [*faults, "references to frames of the source"]
    same = _same_pixels(seg, source, segmentation.frames, expected)
    return faults if same else [*faults, "PixelData"]


def image_of(source: Source) -> tuple[str, str]:
    """Return SOP class and instance by which the source is referred to."""
    return referenced_class(source), source.instance.sop_instance_uid


def reference_of(item: Dataset) -> tuple[str, str, int | None]:
    """Return SOP class, SOP instance and frame that an item refers to."""
    return (
        str(item.ReferencedSOPClassUID),
        str(item.ReferencedSOPInstanceUID),
        item.get("ReferencedFrameNumber"),
    )


def _places_of(source: Source, frames: tuple[int, ...]) -> list[tuple[str, str, int | None]]:
    """Return what each plane must refer to; a still is referred to without a frame."""
    if source.stills:
        return [(*image_of(source.stills[frame - 1]), None) for frame in frames]
    cine = source.facts.number_of_frames > 1
    return [(*image_of(source), frame if cine else None) for frame in frames]


def _numbers_in(
    labels: NDArray[np.uint8], segments: int, form: SegmentationForm
) -> list[int | None]:
    """Return the segments that a plane has frames of; a label map has one frame of all."""
    if form is SegmentationForm.LABELMAP:
        return [None] * bool(labels.any())
    return [number for number in range(1, segments + 1) if (labels == number).any()]


def _segment_number(seg: Seg, item: Dataset) -> int | None:
    """Return the segment of a frame; an only segment stands in the shared groups."""
    for holder in (item, seg.SharedFunctionalGroupsSequence[0]):
        if "SegmentIdentificationSequence" in holder:
            return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return None


def _same_pixels(
    seg: Seg, source: Source, frames: tuple[int, ...], expected: NDArray[np.uint8]
) -> bool:
    """Compare what a reader gets with segment numbers (N, R, C), some frames at a time."""
    try:
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            some = slice(start, start + _FRAMES_AT_ONCE)
            if not np.array_equal(_pixels(seg, source, frames[some]), expected[some]):
                return False
    except RuntimeError:  # highdicom, of segments that overlap
        return False
    return True


def _pixels(seg: Seg, source: Source, frames: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return segment numbers (N, R, C) of those frames as a reader gets them."""
    pixels: NDArray[np.uint8]
    if source.facts.number_of_frames > 1 and not source.stills:
        pixels = seg.get_pixels_by_source_frame(
            source.instance.sop_instance_uid,
            frames,
            combine_segments=True,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        uids = [uid for _, uid, _ in _places_of(source, frames)]
        pixels = seg.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=True
        )
    return pixels

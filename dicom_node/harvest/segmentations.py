"""Masks from DICOM Segmentations: BINARY, FRACTIONAL and LABELMAP, by whichever program.

What a reader did not look for is not known to be absent: a mask says which of its labels the
object defines. Segments that an algorithm drew by itself are no reader's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import StoreError
from dicom_node.harvest.reader_codes import Meaning, ReaderCodes, code_of
from dicom_node.harvest.segment_planes import Plane, flips
from dicom_node.header import text
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box
from dicom_node.store import Reading
from dicom_node.store.label_sets import label_sets

SEG_KEYWORDS: Final = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "PhotometricInterpretation",
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence",
    "SourceImageSequence",
    "ReferencedImageSequence",
)
#: The decoder's grey of a pixel that is set in a BINARY segment.
_SET: Final = 255


@dataclass(frozen=True, kw_only=True)
class SeenCode:
    """A code that an object uses, for the list of what nobody maps."""

    code: str
    label: str
    #: as the object says; may be anything
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of a SEG."""

    #: those that stand for a label, by Segment Number
    meanings: Mapping[int, Meaning]
    unmapped: tuple[SeenCode, ...]
    #: why segments are not used, with how many
    faults: Mapping[str, int]

    def labels(self, about: str) -> frozenset[int]:
        """Return which labels of a set the object looks for."""
        return frozenset(
            one.value for one in self.meanings.values() if one.about == about and one.value
        )


def segments_of(header: Dataset, codes: ReaderCodes) -> Segments:
    """Return what a SEG's segments stand for."""
    meanings: dict[int, Meaning] = {}
    unmapped: list[SeenCode] = []
    faults: Counter[str] = Counter()
    for item in header.get("SegmentSequence") or ():
        number = int(item.get("SegmentNumber") or 0)
        if not number:
            continue  # the background of a label map
        seen = _code(item)
        meaning = codes.meaning(seen.code, seen.label)
        if text(item, "SegmentAlgorithmType") == "AUTOMATIC":
            faults["segment drawn by an algorithm alone"] += 1
        elif meaning is None:
            unmapped.append(seen)
            faults["segment with a code that is not mapped"] += 1
        elif meaning.about in label_sets():
            meanings[number] = meaning
    return Segments(meanings=meanings, unmapped=tuple(unmapped), faults=dict(faults))


def masks_of(
    path: Path,
    header: Dataset,
    planes: Sequence[Plane],
    segments: Segments,
    *,
    lie: "Lie",
    sandbox: PixelSandbox,
) -> list[Reading]:
    """Return the masks that a SEG draws on the stored frames of one image.

    Parameters
    ----------
    path : Path
        Of the SEG.
    header : Dataset
        Of the SEG, see `SEG_KEYWORDS`.
    planes : sequence of Plane
        Of this image and of frames that are stored.
    segments : Segments
        What its segments stand for.
    lie : Lie
        Of `lie_on`.
    sandbox : PixelSandbox
        Decodes the planes.

    Raises
    ------
    StoreError
        When its pixels are of a kind that is not read.
    PixelError
        When they cannot be decoded.
    """
    _check_pixels(header)
    wanted = {p.number: p for p in planes if p.segment is None or p.segment in segments.meanings}
    sheets: dict[tuple[int, str], _Sheet] = {}
    for number, grey in sandbox.frames(path, sorted(wanted)) if wanted else ():
        plane = wanted[number]
        drawn = lie.cut(grey)
        for about, value, strength in _drawn(plane, segments, drawn):
            sheets.setdefault((plane.frame, about), _Sheet(drawn.shape)).draw(value, strength)
    half = _half(header, sheets.values())
    return [
        Reading(
            frame_number=frame, about=about, mask=sheet.mask(half), labels=segments.labels(about)
        )
        for (frame, about), sheet in sorted(sheets.items(), key=lambda item: item[0])
    ]


@dataclass(frozen=True, kw_only=True)
class Lie:
    """How the planes of a SEG lie on an image."""

    #: what the store keeps of the image, in the SEG's pixels
    crop: Box
    #: whether the SEG's rows run up, and its columns to the left
    up: bool
    left: bool

    def cut(self, plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what the store keeps, upright."""
        cut = plane[self.crop.slices]
        return np.ascontiguousarray(cut[:: -1 if self.up else 1, :: -1 if self.left else 1])


def lie_on(header: Dataset, image: Path | None, crop: Box, size: tuple[int, int]) -> Lie:
    """Return how the planes of a SEG lie on an image.

    Parameters
    ----------
    header : Dataset
        Of the SEG.
    image : Path, optional
        The image's file, where it is still here.
    crop : Box
        Which part of the image the store keeps.
    size : tuple of int
        Rows and columns of the image.

    Raises
    ------
    StoreError
        When the SEG has another size than the image, or lies across it.
    """
    own = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if own != size:
        raise StoreError(
            f"it has {own[0]} x {own[1]} pixels, the image {size[0]} x {size[1]}; "
            "draw on the image itself, and export without cropping or resampling"
        )
    up, left = flips(header, image)
    rows, columns = size
    return Lie(
        crop=Box(
            left=columns - crop.right if left else crop.left,
            right=columns - crop.left if left else crop.right,
            top=rows - crop.bottom if up else crop.top,
            bottom=rows - crop.top if up else crop.bottom,
        ),
        up=up,
        left=left,
    )


class _Sheet:
    """The label map of one frame while it is drawn; where segments overlap the stronger one wins.

    Of equal ones it is the one that is drawn later, as in viewers.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._labels = np.zeros(shape, np.uint8)
        self.strongest = np.zeros(shape, np.uint8)

    def draw(self, value: int, strength: NDArray[np.uint8]) -> None:
        wins = (strength >= self.strongest) & (strength > 0)
        self._labels[wins] = value
        np.maximum(self.strongest, strength, out=self.strongest)

    def mask(self, half: float) -> NDArray[np.uint8]:
        return np.where(self.strongest >= half, self._labels, np.uint8(0))


def _drawn(
    plane: Plane, segments: Segments, drawn: NDArray[np.uint8]
) -> Iterable[tuple[str, int, NDArray[np.uint8]]]:
    """Yield label set, value and strength of what a plane shows."""
    if plane.segment is not None:
        meaning = segments.meanings[plane.segment]
        return [(meaning.about, meaning.value or 0, drawn)]
    return [
        (meaning.about, meaning.value or 0, np.where(drawn == number, np.uint8(_SET), np.uint8(0)))
        for number, meaning in segments.meanings.items()
    ]


def _half(header: Dataset, sheets: Iterable[_Sheet]) -> float:
    """Return from which strength on a pixel belongs to its segment."""
    if text(header, "SegmentationType") != "FRACTIONAL":
        return _SET
    most = int(header.get("MaximumFractionalValue") or _SET)
    # a program that compresses declares its BINARY masks FRACTIONAL of 255 and writes 0 and 1
    highest = max((int(sheet.strongest.max(initial=0)) for sheet in sheets), default=0)
    return 1.0 if highest <= 1 else most / 2


def _check_pixels(header: Dataset) -> None:
    kind = text(header, "SegmentationType")
    bits = int(header.get("BitsAllocated") or 0)
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise StoreError("its Segmentation Type is none of BINARY, FRACTIONAL and LABELMAP")
    if bits not in (1, 8) or text(header, "PhotometricInterpretation") != "MONOCHROME2":
        raise StoreError(
            f"{kind} with {bits} bits a pixel or in colour; write it in MONOCHROME2 with 1 or 8"
        )


def _code(item: Dataset) -> SeenCode:
    sequence = item.get("SegmentedPropertyTypeCodeSequence")
    found = sequence[0] if sequence else Dataset()
    return SeenCode(
        code=code_of(text(found, "CodeValue"), text(found, "CodingSchemeDesignator")),
        label=text(item, "SegmentLabel"),
        meaning=text(found, "CodeMeaning"),
    )

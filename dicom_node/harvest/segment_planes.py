"""Which plane of a SEG shows which segment of which frame, and how it lies on the image.

A plane names its image in Derivation Image Sequence (PS3.3 C.7.6.16.2.6). Where a program left that
out, the references of the whole object decide, if they leave no choice; nothing is guessed from
positions, as ultrasound has none.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import PixelError, StoreError, UnreadableError
from dicom_node.header import BROKEN_BYTES, read_header
from dicom_node.pixels.facts import read_facts
from dicom_node.records import Instance

#: Of an image that says nothing: along the rows, down the columns.
UPRIGHT: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: Cosines of axes that are one.
_PARALLEL: Final = 0.999
#: Returns a registered instance, None where there is none.
Find = Callable[[str], Instance | None]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One frame of a SEG."""

    #: 1-based
    number: int
    #: Segment Number; None in a label map, which shows all of them
    segment: int | None
    #: SOP Instance UID
    image: str
    #: 1-based
    frame: int


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a plane says itself."""

    number: int
    segment: int | None
    #: images and frames that it was drawn on; frame 0 where only the image is named
    sources: tuple[tuple[str, int], ...]
    height: float | None


def planes_of(header: Dataset, find: Find) -> tuple[list[Plane], Counter[str]]:
    """Return the planes of a SEG whose place is known, and count why others have none.

    Parameters
    ----------
    header : Dataset
        Of the SEG, with its functional groups.
    find : callable
        Finds an image by its UID.

    Raises
    ------
    StoreError
        When the functional groups do not fit the object.
    """
    said = list(_said(header))
    named = named_images(header)
    faults: Counter[str] = Counter()
    found: list[Plane] = []
    for place, one in _placed(said, named, find):
        if isinstance(place, str):
            faults[place] += 1
        else:
            image, frame = place
            found.append(Plane(number=one.number, segment=one.segment, image=image, frame=frame))
    return found, faults


def named_images(header: Dataset) -> list[str]:
    """Return the images that a SEG names anywhere, each once."""
    found: dict[str, None] = {}
    for series in header.get("ReferencedSeriesSequence") or ():
        for item in series.get("ReferencedInstanceSequence") or ():
            found[str(item.get("ReferencedSOPInstanceUID"))] = None
    for keyword in ("SourceImageSequence", "ReferencedImageSequence"):
        for item in header.get(keyword) or ():
            found[str(item.get("ReferencedSOPInstanceUID"))] = None
    for groups in (*_shared(header), *(header.get("PerFrameFunctionalGroupsSequence") or ())):
        found |= dict.fromkeys(image for image, _ in _sources(groups))
    return list(found)


def flips(header: Dataset, image: Path | None) -> tuple[bool, bool]:
    """Return whether the SEG's rows run up, and its columns to the left, on the image.

    Raises
    ------
    StoreError
        When it lies across the image, or its planes in several ways.
    """
    stated = {_orientation(groups) for groups in _groups(header)} - {()}
    if not stated:
        return False, False
    if len(stated) > 1:
        raise StoreError("its planes have several orientations; draw on the image itself")
    (own,) = stated
    of_image = UPRIGHT if image is None else _image_orientation(image)
    along = [_cosine(own[i : i + 3], of_image[i : i + 3]) for i in (0, 3)]
    if min(abs(cosine) for cosine in along) < _PARALLEL:
        raise StoreError("it lies across the image or is turned; draw on the image itself")
    return along[1] < 0, along[0] < 0


def _said(header: Dataset) -> Iterator[_Said]:
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    count = int(header.get("NumberOfFrames") or 1)
    if len(groups) != count:
        raise StoreError(f"{count} frames, but functional groups of {len(groups)}; write it again")
    shared = _shared(header)
    is_label_map = header.get("SegmentationType") == "LABELMAP"
    for number, own in enumerate(groups, start=1):
        both = (own, *shared)
        segment = next((found for one in both if (found := _segment(one)) is not None), None)
        if segment is None and not is_label_map:
            raise StoreError(f"frame {number} names no segment; write it again")
        yield _Said(
            number=number,
            segment=None if is_label_map else segment,
            sources=next((named for one in both if (named := _sources(one))), ()),
            height=_height(own),
        )


def _placed(
    said: Sequence[_Said], named: Sequence[str], find: Find
) -> Iterator[tuple[tuple[str, int] | str, _Said]]:
    """Yield the image and frame of each plane, or why it has none."""
    frames_of = _Frames(find)
    by_segment: dict[int | None, list[_Said]] = {}
    for one in said:
        by_segment.setdefault(one.segment, []).append(one)
    for stack in by_segment.values():
        for position, one in enumerate(stack, start=1):
            sources = one.sources or tuple((image, 0) for image in named)
            yield _place(sources, position, stack, frames_of), one


class _Frames:
    """How many frames images have."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[str, int | None] = {}

    def of(self, image: str) -> int | None:
        """Return how many, None where the image is not here."""
        if image not in self._known:
            instance = self._find(image)
            try:
                facts = None if instance is None else read_facts(instance.path)
            except (PixelError, UnreadableError):
                facts = None
            self._known[image] = None if facts is None else facts.number_of_frames
        return self._known[image]


def _place(
    sources: Sequence[tuple[str, int]], position: int, stack: Sequence[_Said], frames_of: _Frames
) -> tuple[str, int] | str:
    if len(sources) != 1:
        return "does not say on which of several images or frames it was drawn"
    [(image, frame)] = sources
    count = frames_of.of(image)
    if count is None:  # it is looked at again when its image is here
        return image, frame or position
    if frame or (len(stack) == count and _ascends(stack)):
        number = frame or position
        return (image, number) if number <= count else "names a frame that the image does not have"
    return "does not say on which frames of the image it was drawn"


def _ascends(stack: Sequence[_Said]) -> bool:
    """Whether planes without references lie in the order of their numbers, or nowhere."""
    heights = [one.height for one in stack if one.height is not None]
    return heights == sorted(heights)


def _shared(header: Dataset) -> list[Dataset]:
    return list(header.get("SharedFunctionalGroupsSequence") or ())[:1]


def _groups(header: Dataset) -> list[Dataset]:
    return [*_shared(header), *(header.get("PerFrameFunctionalGroupsSequence") or ())]


def _segment(groups: Dataset) -> int | None:
    items = groups.get("SegmentIdentificationSequence")
    return int(items[0].ReferencedSegmentNumber) if items else None


def _sources(groups: Dataset) -> tuple[tuple[str, int], ...]:
    found: dict[tuple[str, int], None] = {}
    for derivation in groups.get("DerivationImageSequence") or ():
        for item in derivation.get("SourceImageSequence") or ():
            uid = str(item.get("ReferencedSOPInstanceUID"))
            for frame in _numbers(item.get("ReferencedFrameNumber")) or (0,):
                found[uid, frame] = None
    return tuple(found)


def _numbers(value: object) -> tuple[int, ...]:
    """Return the values of an IS of any multiplicity."""
    if value is None or value == "":
        return ()
    if isinstance(value, int | str):
        return (int(value),)
    return tuple(int(one) for one in value) if isinstance(value, Sequence) else ()


def _orientation(groups: Dataset) -> tuple[float, ...]:
    items = groups.get("PlaneOrientationSequence")
    stated = items[0].get("ImageOrientationPatient") if items else None
    cosines = tuple(round(float(value), 4) for value in stated or ())
    return cosines if len(cosines) == 6 else ()


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _image_orientation(image: Path) -> tuple[float, ...]:
    try:
        stated = read_header(image, ["ImageOrientationPatient"]).get("ImageOrientationPatient")
        cosines = tuple(float(value) for value in stated or ())
    except (UnreadableError, *BROKEN_BYTES):
        cosines = ()
    return cosines if len(cosines) == 6 else UPRIGHT


def _height(groups: Dataset) -> float | None:
    """Return where a plane lies along the normal of an upright one."""
    items = groups.get("PlanePositionSequence")
    position = items[0].get("ImagePositionPatient") if items else None
    return float(position[2]) if position and len(position) == 3 else None


def images_of(planes: Sequence[Plane]) -> Mapping[str, list[Plane]]:
    """Return the planes by image, in the order of the object."""
    found: dict[str, list[Plane]] = {}
    for plane in sorted(planes, key=lambda plane: plane.number):
        found.setdefault(plane.image, []).append(plane)
    return found

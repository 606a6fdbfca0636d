"""What a SEG that the node keeps says of one image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.errors import UnreadableError

if TYPE_CHECKING:  # loaded when the first picture is asked for
    import numpy as np
    from highdicom.seg import Segmentation
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

#: A cine of 1000 frames packs into less.
_MOST_BYTES: Final = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment that a model knows."""

    #: Segment Number (0062,0004)
    number: int
    label: str
    algorithm: str
    #: of the image, those in which it is; 1 of a still
    frames: tuple[int, ...]


class KeptSegmentation:
    """A SEG in the folder of results, as far as it is about one image.

    Parameters
    ----------
    path : Path
    sop_instance_uid : str
        Of the image.

    Raises
    ------
    UnreadableError
        When it is not there any more, or too large for a picture.
    """

    def __init__(self, path: Path, sop_instance_uid: str) -> None:
        from highdicom.seg import segread  # noqa: PLC0415

        try:
            size_bytes = path.stat().st_size
        except FileNotFoundError:
            raise UnreadableError(f"{path.name} is not in the folder of results any more") from None
        if size_bytes > _MOST_BYTES:
            raise UnreadableError(f"{path.name} is too large for a picture; open it in the viewer")
        self._seg: Segmentation = segread(path)
        self._image = sop_instance_uid
        #: (segment, or None where a frame holds all of them; frame, or None of a still)
        self._places = list(self._referenced())
        self.segments = tuple(
            Segment(
                number=int(item.SegmentNumber),
                label=str(item.SegmentLabel),
                algorithm=str(item.get("SegmentAlgorithmName", "")),
                frames=self._frames_of(int(item.SegmentNumber)),
            )
            for item in self._seg.SegmentSequence
            if int(item.SegmentNumber) > 0  # 0 is the background of a label map
        )

    def plane(self, frame: int) -> "NDArray[np.uint8] | None":
        """Return Segment Number by pixel (R, C) of a frame, None where nothing is."""
        frames = {place for _, place in self._places}
        if None in frames:
            maps = self._seg.get_pixels_by_source_instance(
                [self._image], combine_segments=True, ignore_spatial_locations=True
            )
        elif frame in frames:
            maps = self._seg.get_pixels_by_source_frame(
                self._image, [frame], combine_segments=True, ignore_spatial_locations=True
            )
        else:
            return None
        found: NDArray[np.uint8] = maps[0].astype("uint8")
        return found

    def _frames_of(self, number: int) -> tuple[int, ...]:
        return tuple(
            sorted({frame or 1 for segment, frame in self._places if segment in (None, number)})
        )

    def _referenced(self) -> "list[tuple[int | None, int | None]]":
        return [
            (self._segment_number(item), frame)
            for item in self._seg.PerFrameFunctionalGroupsSequence
            for derivation in item.DerivationImageSequence
            for image in derivation.SourceImageSequence
            if image.ReferencedSOPInstanceUID == self._image
            for frame in _numbers(image.get("ReferencedFrameNumber"))
        ]

    def _segment_number(self, item: "Dataset") -> int | None:
        """Return the segment of a frame; an only segment stands in the shared groups."""
        for holder in (item, self._seg.SharedFunctionalGroupsSequence[0]):
            if "SegmentIdentificationSequence" in holder:
                return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        return None


def _numbers(value: object) -> list[int | None]:
    """Return the frames of a reference; one without any is of a still."""
    if value is None:
        return [None]
    return [int(one) for one in value] if isinstance(value, list) else [int(str(value))]

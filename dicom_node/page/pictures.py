"""A frame as the models saw it, with the outlines that they found; without what names a patient.

Scanners write names around the picture. So nothing is shown but the B-mode region that the header
names; where it names none, the outlines stand on black.
"""

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.errors import PixelError
from dicom_node.page.segments import KeptSegmentation, Segment
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, ImageFacts, Instance

if TYPE_CHECKING:  # loaded when the first picture is asked for
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as Pillow
    from PIL import ImageDraw as Draw

#: Widths in pixels that may be asked for, the small one for lists.
SMALL_PX: Final = 320
LARGE_PX: Final = 960
#: A picture that is smaller is enlarged this much at most.
_ENLARGED: Final = 2.0
#: ... and none is taller than its width times this.
_TALLEST: Final = 1.5
_KEPT: Final = 128


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What can be shown of an image."""

    number_of_frames: int
    has_region: bool
    #: in the order of `dicom_node.results.overlay.COLOURS`
    segments: tuple[Segment, ...]

    @property
    def frames(self) -> list[int]:
        """The frames in which something is."""
        return sorted({frame for one in self.segments for frame in one.frames})

    @property
    def first(self) -> int:
        """The frame to begin with: in the middle of those in which something is."""
        frames = self.frames or [1]
        return frames[len(frames) // 2]


class Pictures:
    """Draws one picture at a time, and keeps the last ones.

    Parameters
    ----------
    memory_mib, timeout_s
        Limits of the process that decodes pixels.
    """

    def __init__(self, memory_mib: int, timeout_s: float) -> None:
        self._sandbox = PixelSandbox(memory_mib=memory_mib, timeout_s=timeout_s)
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, bytes] = OrderedDict()

    def close(self) -> None:
        """End the decoder process."""
        with self._lock:
            self._sandbox.close()

    def legend(self, image: Instance, segmentations: Sequence[Path]) -> Legend:
        """Return what can be shown of an image.

        Raises
        ------
        PixelError, UnreadableError
            When the image cannot be read.
        """
        return _legend(read_facts(image.path), _kept(image, segmentations))

    def png(
        self, image: Instance, segmentations: Sequence[Path], frame: int | None, width: int
    ) -> bytes:
        """Return one frame with the outlines in it.

        Parameters
        ----------
        image : Instance
        segmentations : sequence of Path
            The SEGs on it, as they are kept.
        frame : int or None
            None for `Legend.first`.
        width : int
            `SMALL_PX` or `LARGE_PX`.

        Raises
        ------
        PixelError, UnreadableError
            When the image cannot be read, or has no such frame.
        """
        key = (image.file_id, tuple(segmentations), frame, width)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._drawn(image, _kept(image, segmentations), frame, width)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _drawn(
        self, image: Instance, kept: Sequence[KeptSegmentation], frame: int | None, width: int
    ) -> bytes:
        from PIL import Image, ImageDraw  # noqa: PLC0415

        facts = read_facts(image.path)
        number = frame or _legend(facts, kept).first
        if not 1 <= number <= facts.number_of_frames:
            raise PixelError(f"there is no frame {number}; the last is {facts.number_of_frames}")
        box = facts.region or Box(left=0, top=0, right=facts.columns, bottom=facts.rows)
        scale = min(width / box.width, _TALLEST * width / box.height, _ENLARGED)
        size = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
        picture = Image.new("RGB", size)
        if facts.region is not None:
            tissue = Image.fromarray(self._decoded(image.path, number)[box.slices].copy())
            picture.paste(tissue.convert("RGB").resize(size, Image.Resampling.BILINEAR))
        _outline(ImageDraw.Draw(picture), kept, number, box, scale)
        return _png(picture)

    def _decoded(self, path: Path, frame: int) -> "NDArray[np.uint8]":
        # to the end, or the decoder is ended with its work
        [(_, grey)] = self._sandbox.frames(path, [frame])
        return grey


def _kept(image: Instance, segmentations: Sequence[Path]) -> list[KeptSegmentation]:
    return [KeptSegmentation(path, image.sop_instance_uid) for path in segmentations]


def _legend(facts: ImageFacts, kept: Sequence[KeptSegmentation]) -> Legend:
    return Legend(
        number_of_frames=facts.number_of_frames,
        has_region=facts.region is not None,
        segments=tuple(segment for one in kept for segment in one.segments),
    )


def _outline(
    draw: "Draw.ImageDraw", kept: Sequence[KeptSegmentation], frame: int, box: Box, scale: float
) -> None:
    from dicom_node.results.overlay import COLOURS, outlines  # noqa: PLC0415

    planes = [(one.plane(frame), one.segments) for one in kept]
    pairs = [(plane, segment) for plane, segments in planes for segment in segments]
    for place, (plane, segment) in enumerate(pairs):
        colour = COLOURS[place % len(COLOURS)]
        for points in outlines(plane == segment.number) if plane is not None else ():
            corners = [((x - box.left) * scale, (y - box.top) * scale) for x, y in points.tolist()]
            draw.line(corners, fill=(0, 0, 0), width=4, joint="curve")
            draw.line(corners, fill=colour, width=2, joint="curve")


def _png(picture: "Pillow.Image") -> bytes:
    code = io.BytesIO()
    picture.save(code, "PNG")
    return code.getvalue()

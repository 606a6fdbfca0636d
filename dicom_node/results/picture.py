"""The pictures of a Secondary Capture: outlines over the tissue, words in a band below it.

The tissue is grey, as the models saw it, and no word covers it. One frame at a time is in memory as
it was decoded; kept are its code and a small print by which the gate knows it again.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, Edition
from dicom_node.results.overlay import Line, frames_of_models, layers_of, lines_of, outlines

#: Pictures of one capture take at most so much memory before they are compressed, to about a
#: fifteenth; of a longer cine every n-th frame is shown.
RAW_BUDGET_BYTES: Final = 512 * 2**20
#: JPEG: outlines and words stay sharp
_QUALITY: Final = 92
#: Words of a smaller image would not fit beside it.
_LEAST_COLUMNS: Final = 256
_BLOCK: Final = 8
_MARGIN: Final = 6
_SHADE: Final = (0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame of a capture."""

    #: of the source
    frame: int
    #: RGB of shape (R, C, 3) in bytes in a still; JPEG Baseline, 4:2:2, in a cine
    code: bytes
    #: `thumbprint` of what was drawn
    print: NDArray[np.float32]


class Pictures:
    """The frames of the capture of one analysis, drawn when they are first looked at."""

    def __init__(self, analysis: Analysis, edition: Edition, sandbox: PixelSandbox) -> None:
        self._analysis = analysis
        self._sandbox = sandbox
        facts = analysis.facts
        self.frames = frames_shown(analysis)
        self.is_cine = len(self.frames) > 1
        self.columns = max(_LEAST_COLUMNS, facts.columns + facts.columns % 2)  # 4:2:2 wants pairs
        size_px = max(13, self.columns // 45)
        self._font = ImageFont.load_default(size=size_px)
        self._lines = {
            frame: _wrapped(lines_of(analysis, edition, frame), self._font, self.columns)
            for frame in self.frames
        }
        self._line_height = math.ceil(size_px * 1.3)
        most = max(len(lines) for lines in self._lines.values())
        self.rows = facts.rows + 2 * _MARGIN + most * self._line_height

    @cached_property
    def drawn(self) -> list[Picture]:
        """Every picture in order.

        Raises
        ------
        PixelError
            When the source cannot be decoded.
        """
        path, found = self._analysis.instance.path, []
        for frame, grey in self._sandbox.frames(path, self.frames):
            picture = self._draw(frame, grey)
            pixels = np.asarray(picture)
            code = _jpeg(picture) if self.is_cine else pixels.tobytes()
            found.append(Picture(frame=frame, code=code, print=thumbprint(pixels)))
        return found

    def _draw(self, frame: int, grey: NDArray[np.uint8]) -> Image.Image:
        picture = Image.new("RGB", (self.columns, self.rows), _SHADE)
        picture.paste(Image.fromarray(grey).convert("RGB"), (0, 0))
        draw = ImageDraw.Draw(picture)
        width = max(2, self.columns // 350)
        for layer in layers_of(self._analysis):
            mask = layer.mask(frame)
            for points in outlines(mask) if mask is not None else ():
                # Pillow counts from the centre of the first pixel
                corners = [(float(x), float(y)) for x, y in points - 0.5]
                draw.line(corners, fill=_SHADE, width=width + 2, joint="curve")
                draw.line(corners, fill=layer.colour, width=width, joint="curve")
        top = self._analysis.facts.rows
        draw.rectangle((0, top, self.columns, self.rows), fill=_SHADE)
        for row, line in enumerate(self._lines[frame]):
            place = (_MARGIN, top + _MARGIN + row * self._line_height)
            draw.text(place, line.text, fill=line.colour, font=self._font)
        return picture


def frames_shown(analysis: Analysis) -> list[int]:
    """Return the frames that a model spoke of, thinned out evenly where they are too many."""
    frames, facts = frames_of_models(analysis), analysis.facts
    size_bytes = 3 * facts.rows * facts.columns * len(frames)
    return frames[:: max(1, math.ceil(size_bytes / RAW_BUDGET_BYTES))]


def thumbprint(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean colours of blocks of 8 x 8 pixels; what is left at the edges counts little.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (R, C, 3)
    """
    rows, columns = (size // _BLOCK * _BLOCK for size in pixels.shape[:2])
    blocks = pixels[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK, 3)
    found: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return found


def _jpeg(picture: Image.Image) -> bytes:
    code = io.BytesIO()
    picture.save(code, "JPEG", quality=_QUALITY, subsampling="4:2:2")
    return code.getvalue()


def _wrapped(
    lines: Sequence[Line], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, columns: int
) -> list[Line]:
    """Break lines that are wider than the picture."""
    found = []
    for line in lines:
        words, row = line.text.split(), ""
        for word in words:
            longer = f"{row} {word}".strip()
            if row and font.getlength(longer) > columns - 2 * _MARGIN:
                found.append(Line(text=row, colour=line.colour))
                longer = word
            row = longer
        found.append(Line(text=row, colour=line.colour))
    return found

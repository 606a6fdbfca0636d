"""The gate of presentation states and captures: what is read back is what was meant.

As in `gate`, each fault is named by attribute, never by value.
"""

import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from dicom_node.header import BROKEN_BYTES
from dicom_node.records import Analysis, Edition, ResultKind
from dicom_node.results.capture import CINE, capture_class
from dicom_node.results.gate import Identity, identity_faults
from dicom_node.results.overlay import overlay_uid
from dicom_node.results.parts import referenced_class
from dicom_node.results.picture import Picture, Pictures, thumbprint
from dicom_node.results.presentation import drawings, presentation_class
from dicom_node.results.source import Source

#: How far the mean colour of 8 x 8 pixels may go by JPEG, of 255: most where words in full colour
#: stand on black. Another frame or swapped colours go farther.
_TOLERANCE: Final = 40.0
#: ... and the mean of the whole picture
_MEAN_TOLERANCE: Final = 2.0
#: what is drawn: layer, image, frame, points of each outline, words
_Drawn = tuple[str, tuple[str, str], int | None, list[tuple[float, ...]], str]


def presentation_faults(
    path: Path, *, source: Source, analysis: Analysis, edition: Edition
) -> list[str]:
    """Read a presentation state back and return what differs from what was meant.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        The image that it must refer to.
    analysis : Analysis
        What it must show.
    edition : Edition
        Which version it must be.

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        state = dcmread(path)
        uid = overlay_uid(ResultKind.PR, analysis, edition)
        faults = identity_faults(
            state, source, Identity("PR", presentation_class(source.instance), uid, edition.version)
        )
        series = state.ReferencedSeriesSequence
        references = [_image(item) for entry in series for item in entry.ReferencedImageSequence]
        instance = source.instance
        checks = {
            "SOPClassUID": state.SOPClassUID == presentation_class(instance),
            "ReferencedSeriesSequence": [entry.SeriesInstanceUID for entry in series]
            == [instance.series_instance_uid],
            "ReferencedImageSequence": references == [_expected_image(source)],
            "GraphicAnnotationSequence": list(_drawn(state))
            == list(_expected(source, analysis, edition)),
        }
        return faults + [what for what, good in checks.items() if not good]
    except BROKEN_BYTES as exc:
        return [f"not readable ({type(exc).__name__})"]


def capture_faults(
    path: Path, *, source: Source, analysis: Analysis, edition: Edition, pictures: Pictures
) -> list[str]:
    """Read a Secondary Capture back and return what differs from what was meant.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        The image that it must refer to.
    analysis : Analysis
        What it must show.
    edition : Edition
        Which version it must be.
    pictures : Pictures
        What its frames must look like.

    Returns
    -------
    list of str
        Empty when it may leave.
    """
    try:
        capture = dcmread(path)
        uid = overlay_uid(ResultKind.SC, analysis, edition)
        faults = identity_faults(
            capture, source, Identity("US", capture_class(analysis), uid, edition.version)
        )
        references = [(_image(item), _frames(item)) for item in capture.SourceImageSequence]
        numbers = pictures.frames if source.facts.number_of_frames > 1 else []
        size = (capture.Rows, capture.Columns, capture.get("NumberOfFrames", 1))
        checks = {
            "SOPClassUID": capture.SOPClassUID == capture_class(analysis),
            "SourceImageSequence": references == [(_expected_image(source), numbers)],
            "BurnedInAnnotation": capture.BurnedInAnnotation == "YES",
            "number and size of frames": size
            == (pictures.rows, pictures.columns, len(pictures.frames)),
        }
        faults += [what for what, good in checks.items() if not good]
        return faults or ([] if _same_pictures(capture, pictures) else ["PixelData"])
    except BROKEN_BYTES as exc:
        return [f"not readable ({type(exc).__name__})"]


def _drawn(state: Dataset) -> Iterator[_Drawn]:
    for item in state.GraphicAnnotationSequence:
        graphics = item.get("GraphicObjectSequence", ())
        texts = item.get("TextObjectSequence", ())
        for image in item.ReferencedImageSequence:
            frames = _frames(image)
            yield (
                str(item.GraphicLayer),
                _image(image),
                frames[0] if frames else None,
                [tuple(graphic.GraphicData) for graphic in graphics],
                "".join(text.UnformattedTextValue for text in texts),
            )


def _expected(source: Source, analysis: Analysis, edition: Edition) -> Iterator[_Drawn]:
    for drawing in drawings(analysis, edition):
        points = [tuple(outline.ravel().tolist()) for outline in drawing.outlines]
        yield drawing.layer, _expected_image(source), drawing.frame, points, drawing.text


def _image(item: Dataset) -> tuple[str, str]:
    return str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)


def _expected_image(source: Source) -> tuple[str, str]:
    return referenced_class(source), source.instance.sop_instance_uid


def _frames(item: Dataset) -> list[int]:
    found: Any = item.get("ReferencedFrameNumber", [])
    return [int(frame) for frame in (found if isinstance(found, Iterable) else [found])]


def _same_pictures(capture: Dataset, pictures: Pictures) -> bool:
    """Compare the code of each frame, and what a reader sees of it, one frame at a time."""
    size = (capture.Rows, capture.Columns, 3)
    codes: Iterable[bytes] = (capture.PixelData[: math.prod(size)],)
    if capture.SOPClassUID == CINE:
        codes = generate_frames(capture.PixelData, number_of_frames=capture.NumberOfFrames)
    return all(
        code.startswith(picture.code) and _looks_like(_seen(code, size), picture)
        for code, picture in zip(codes, pictures.drawn, strict=True)
    )


def _seen(code: bytes, size: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return RGB of shape (R, C, 3)."""
    if len(code) == math.prod(size):
        return np.frombuffer(code, np.uint8).reshape(size)
    return np.array(Image.open(io.BytesIO(code)).convert("RGB"))


def _looks_like(seen: NDArray[np.uint8], picture: Picture) -> bool:
    off = np.abs(thumbprint(seen) - picture.print)
    return float(off.max()) <= _TOLERANCE and float(off.mean()) <= _MEAN_TOLERANCE

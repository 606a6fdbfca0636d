"""What a header says of an image's pixels (PS3.3 C.7.6.3, C.7.6.6, C.8.5.5).

The B-mode region is the largest item of Sequence of Ultrasound Regions (0018,6011) that is 2D
(Region Spatial Format 1) and shows tissue (Region Data Type 1). Doppler, M-mode, waveforms and the
all-zero dummies that some scanners write first do not count. Where such a diagram lies over the
B-mode region, it is told: writing stands in it. Colour flow lies over tissue by its nature.

A picture that was made smaller after its header was written has regions that leave it: then none of
them is where the header says, and none is believed.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset

from dicom_node.errors import PixelError, UnreadableError
from dicom_node.header import BROKEN_BYTES, read_header, text
from dicom_node.records import Box, ImageFacts

KEYWORDS = ("Rows", "Columns", "NumberOfFrames", "SequenceOfUltrasoundRegions")
#: A smaller region, in pixels of its shorter side, is no picture.
SMALLEST_REGION_PX = 16
#: So far may a region leave the picture: the last pixel counted from 1, or rounding.
MOST_OUTSIDE_PX = 2
#: No scanner writes more regions; the rest is not looked at.
MOST_REGIONS = 64
#: Region Spatial Format (0018,6012): M-mode, spectral, waveform
DIAGRAM_FORMATS = frozenset({2, 3, 4})
#: Region Data Type (0018,6014): Doppler spectra, traces, ECG, pulse, phonocardiogram, ...
DIAGRAM_TYPES = frozenset({*range(0x03, 0x0D), 0x10, 0x11, 0x12})
#: An item of an encapsulated cine has a header of so many bytes (PS3.5 A.4).
SMALLEST_FRAME_BYTES = 8
#: Physical Units X/Y Direction (0018,6024), (0018,6026)
CENTIMETRE = 3
#: Two scales that differ by less are one scale with rounding.
SCALE_TOLERANCE = 1e-3


def read_facts(path: Path) -> ImageFacts:
    """Read what is needed to know about an image before its pixels are touched.

    Parameters
    ----------
    path : Path
        A DICOM file with File Meta Information.

    Returns
    -------
    ImageFacts
        Number of Frames (0028,0008) counts as 1 when absent, empty or 0.

    Raises
    ------
    UnreadableError
        When the bytes are not readable as DICOM.
    PixelError
        When the object is no image, or its header says impossible things of it.
    """
    return facts_of(read_header(path, KEYWORDS), size_bytes=path.stat().st_size)


def facts_of(header: FileDataset, *, size_bytes: int) -> ImageFacts:
    """Return the facts of a header that was read already, with `KEYWORDS`; see `read_facts`."""
    rows, columns = _size(header, "Rows"), _size(header, "Columns")
    placed = _placed(header, rows=rows, columns=columns)
    regions = tuple(_tissue_regions(placed, rows=rows, columns=columns))
    # of two that are equally large the first one
    kept = max(regions, key=lambda one: one[0].width * one[0].height, default=None)
    return ImageFacts(
        rows=rows,
        columns=columns,
        number_of_frames=_frames(header, size_bytes=size_bytes),
        transfer_syntax_uid=transfer_syntax_of(header),
        region=kept and kept[0],
        spacing_mm=_single_scale(scale for _, scale in regions),
        region_spacing_mm=kept and kept[1],
        further_regions=max(0, len(regions) - 1),
        overlaid=tuple(_overlaid(placed, kept[0])) if kept else (),
    )


def transfer_syntax_of(header: FileDataset) -> str:
    """Return Transfer Syntax UID (0002,0010) of a file.

    Raises
    ------
    PixelError
        When it is absent.
    """
    try:
        return str(header.file_meta.TransferSyntaxUID)
    except BROKEN_BYTES:
        raise PixelError(
            "no Transfer Syntax UID (0002,0010) in the File Meta Information; "
            "send the object again from its source"
        ) from None


def _size(header: FileDataset, keyword: str) -> int:
    value = _number(header, keyword)
    if value is None:
        raise PixelError(f"no {keyword} in the header: the object is not an image")
    if not 1 <= value <= 65535 or value != int(value):
        raise PixelError(f"{keyword} is {value:g}, not 1 to 65535; send the image again")
    return int(value)


def _frames(header: FileDataset, *, size_bytes: int) -> int:
    stated = text(header, "NumberOfFrames")
    try:
        value = float(stated or 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 2**31 or value != int(value):
        raise PixelError(
            "Number of Frames (0028,0008) is not a whole number; correct it at the source"
        )
    # a frame takes bytes: whoever makes a list of a thousand million of them runs out of memory
    if value > size_bytes / SMALLEST_FRAME_BYTES + 1:
        raise PixelError(
            f"Number of Frames (0028,0008) is {value:.0f} in a file of {size_bytes} bytes; "
            "send the object again"
        )
    return max(1, int(value))


def _placed(header: FileDataset, *, rows: int, columns: int) -> list[tuple[Dataset, Box]]:
    """Return the regions with their boxes, none where one of them leaves the picture."""
    try:
        items = list(header.get("SequenceOfUltrasoundRegions") or ())[:MOST_REGIONS]
    except BROKEN_BYTES as exc:
        raise UnreadableError(
            f"SequenceOfUltrasoundRegions is not readable ({type(exc).__name__})"
        ) from None
    # a dummy (Region Spatial Format 0) says nothing of the picture
    stated = ((item, _stated(item)) for item in items if _number(item, "RegionSpatialFormat"))
    placed = [(item, box) for item, box in stated if box is not None]
    if any(_leaves(box, rows=rows, columns=columns) for _, box in placed):
        return []
    return placed


def _tissue_regions(
    placed: Sequence[tuple[Dataset, Box]], *, rows: int, columns: int
) -> Iterator[tuple[Box, tuple[float, float] | None]]:
    """Yield box and scale of every usable 2D tissue region."""
    for item, stated in placed:
        is_tissue = (
            _number(item, "RegionSpatialFormat") == 1 and _number(item, "RegionDataType") == 1
        )
        box = _cut(stated, rows=rows, columns=columns) if is_tissue else None
        if box is not None:
            yield box, _scale(item)


def _overlaid(placed: Sequence[tuple[Dataset, Box]], region: Box) -> Iterator[Box]:
    """Yield what diagrams take of a region."""
    for item, box in placed:
        is_diagram = (
            _number(item, "RegionSpatialFormat") in DIAGRAM_FORMATS
            or _number(item, "RegionDataType") in DIAGRAM_TYPES
        )
        part = Box(
            left=max(region.left, box.left),
            top=max(region.top, box.top),
            right=min(region.right, box.right),
            bottom=min(region.bottom, box.bottom),
        )
        if is_diagram and part.width > 0 and part.height > 0:
            yield part


def _stated(item: Dataset) -> Box | None:
    """Return the region as a half-open box; Max X1 and Max Y1 are the last pixel inside."""
    corners = _numbers(
        item, *(f"RegionLocation{at}" for at in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
    )
    if corners is None:
        return None
    left, top, last_x, last_y = (int(corner) for corner in corners)
    return Box(left=left, top=top, right=last_x + 1, bottom=last_y + 1)


def _leaves(box: Box, *, rows: int, columns: int) -> bool:
    outside = max(-box.left, -box.top, box.right - columns, box.bottom - rows)
    return outside > MOST_OUTSIDE_PX


def _cut(stated: Box, *, rows: int, columns: int) -> Box | None:
    """Return the part of a region that is in the picture, None where it is too small."""
    box = Box(
        left=max(0, stated.left),
        top=max(0, stated.top),
        right=min(columns, stated.right),
        bottom=min(rows, stated.bottom),
    )
    return box if min(box.width, box.height) >= SMALLEST_REGION_PX else None


def _scale(item: Dataset) -> tuple[float, float] | None:
    """Return row and column spacing in mm; the deltas' signs only tell directions."""
    units = _numbers(item, "PhysicalUnitsXDirection", "PhysicalUnitsYDirection")
    deltas = _numbers(item, "PhysicalDeltaY", "PhysicalDeltaX")
    if units is None or set(units) != {CENTIMETRE} or deltas is None or not all(deltas):
        return None
    return abs(deltas[0]) * 10, abs(deltas[1]) * 10


def _single_scale(
    scales: Iterable[tuple[float, float] | None],
) -> tuple[float, float] | None:
    """Return the one scale that all regions share; two scales give no valid spacing."""
    first, *others = tuple(scales) or (None,)
    same = first is not None and all(
        other is not None
        and math.isclose(other[0], first[0], rel_tol=SCALE_TOLERANCE)
        and math.isclose(other[1], first[1], rel_tol=SCALE_TOLERANCE)
        for other in others
    )
    return first if same else None


def _numbers(item: Dataset, *keywords: str) -> tuple[float, ...] | None:
    """Return all the named numbers, None when one of them is missing."""
    values = tuple(_number(item, keyword) for keyword in keywords)
    found = tuple(value for value in values if value is not None)
    return found if len(found) == len(values) else None


def _number(item: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric attribute, None when absent, empty or not finite."""
    try:
        value = item.get(keyword)
        if value is None or (isinstance(value, str) and not value):
            return None
        number = float(value if isinstance(value, int | float | str) else value[0])
    except BROKEN_BYTES:
        raise UnreadableError(f"{keyword} is not readable") from None
    return number if math.isfinite(number) else None

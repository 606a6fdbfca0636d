"""Slices to a volume of 48 x 192 x 192 grey voxels.

Within a slice the scale is the same along rows and columns, so that pixels that are not square
become square; the longer side fills 192 voxels, black fills the rest. Along the normal the whole
extent is stretched over 48 slices, each mixed of the two that lie next to it. Views are turned as
they are read: axial rows run to the patient's left and columns to the back; coronal and sagittal
columns run to the feet.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.harvest.volumes.assembling import Stack
from dicom_node.harvest.volumes.slices import Slice
from dicom_node.store.volumes import SHAPE

#: CT: Hounsfield units of black and white, 3.9 a grey level: soft tissue keeps its differences,
#: lung is nearly as black as air, compact bone is white.
WINDOW_HU: Final = (-500.0, 500.0)
#: MR: what becomes black, a percentile of all, and white, one of what is not background.
PERCENTILES: Final = (0.5, 99.5)
#: What is darker than this part of the way from one percentile to the other is background.
_BACKGROUND: Final = 0.02
Plane = NDArray[np.float32]


class Canvas:
    """Where the slices of a stack are drawn.

    Parameters
    ----------
    stack : Stack
    """

    def __init__(self, stack: Stack) -> None:
        first = stack.slices[0]
        self._shifts_mm = stack.shifts_mm
        size_mm = np.array([first.columns * first.spacing_mm[1], first.rows * first.spacing_mm[0]])
        low, high = self._shifts_mm.min(axis=0), self._shifts_mm.max(axis=0)
        #: millimetres a voxel, of rows and columns
        self.spacing_mm = float(max((size_mm + high - low) / SHAPE[:0:-1]))
        self._size = np.maximum(1, np.round(size_mm / self.spacing_mm).astype(int))
        spare = np.array(SHAPE[:0:-1]) - self._size - np.round((high - low) / self.spacing_mm)
        self._origin = np.maximum(0, spare // 2) - low / self.spacing_mm
        self._turn = _turning(first)

    def drawn(self, number: int, values: Plane) -> Plane:
        """Return slice `number` of the stack in its place, float32, (R, C); NaN around it."""
        width, height = (int(side) for side in self._size)
        picture = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
        canvas = np.full(SHAPE[1:], np.nan, np.float32)
        left, top = (
            int(place)
            for place in np.round(self._origin + self._shifts_mm[number] / self.spacing_mm)
        )
        right, bottom = min(SHAPE[2], left + width), min(SHAPE[1], top + height)
        canvas[top:bottom, left:right] = np.asarray(picture)[: bottom - top, : right - left]
        return self._turned(canvas)

    def _turned(self, canvas: Plane) -> Plane:
        is_swapped, flips_rows, flips_columns = self._turn
        turned = canvas.T if is_swapped else canvas
        return np.ascontiguousarray(
            turned[:: -1 if flips_columns else 1, :: -1 if flips_rows else 1]
        )


def values_of(one: Slice, stored: NDArray[np.int32]) -> Plane:
    """Return what the stored values of a slice stand for, float32; bright is large."""
    values = stored.astype(np.float32) * np.float32(one.slope) + np.float32(one.intercept)
    return -values if one.is_inverted else values


def needed(count: int) -> list[tuple[int, int, float]]:
    """Return the two of `count` slices that each slice of a volume lies between, and where."""
    at = np.linspace(0, count - 1, SHAPE[0])
    return [(int(one), min(int(one) + 1, count - 1), float(one % 1)) for one in at]


def voxels_of(drawn: Mapping[int, Plane], count: int, modality: str) -> NDArray[np.uint8] | None:
    """Return the volume of drawn slices; None when all of it is one grey.

    Parameters
    ----------
    drawn : mapping of int to ndarray
        By place in a stack of `count`; those that `needed` names, NaN where nothing was seen.
    count : int
        Slices of the stack.
    modality : str
        CT or MR.
    """
    low, high = WINDOW_HU if modality == "CT" else _stretch(drawn.values())
    if not high > low:
        return None
    voxels = np.empty(SHAPE, np.uint8)
    for number, (below, above, part) in enumerate(needed(count)):
        mixed = drawn[below] * np.float32(1 - part) + drawn[above] * np.float32(part)
        grey = np.clip((mixed - low) * (255 / (high - low)) + 0.5, 0, 255)
        voxels[number] = np.nan_to_num(grey, nan=0.0)
    return voxels if voxels.min() < voxels.max() else None


def _stretch(drawn: Iterable[Plane]) -> tuple[float, float]:
    seen = np.concatenate([plane[np.isfinite(plane)] for plane in drawn])
    low, high = (float(one) for one in np.percentile(seen, PERCENTILES))
    lit = seen[seen > low + _BACKGROUND * (high - low)]
    return low, float(np.percentile(lit, PERCENTILES[1])) if lit.size else low


def _turning(first: Slice) -> tuple[bool, bool, bool]:
    """Return whether rows and columns are to be swapped, and then which of them run backwards."""
    row, column = (int(np.argmax(np.abs(v))) for v in (first.along_row, first.along_column))
    # the axis that rows are to run along comes first of the patient's: left, then back
    is_swapped = row > column
    across, down = first.along_row, first.along_column
    if is_swapped:
        across, down, row, column = down, across, column, row
    # of the axes left, back, head: columns run to the feet
    return is_swapped, bool(across[row] < 0), bool((down[column] < 0) != (column == 2))

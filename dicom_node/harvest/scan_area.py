"""Where the scan lies in a picture whose header does not say it.

Speckle is told from writing, lines and bars block by block; the largest patch of it is the scan,
and everything around is blanked, not only cut off: writing stands in the corners of a sector. Where
that is not clear nothing is found, and the picture stays out of the store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dicom_node.records import Box

#: Side of a block in pixels.
BLOCK: Final = 8
#: A pixel above this grey is lit; a block of the scan is lit by this part or more.
LIT_GREY: Final = 16
LIT_SHARE: Final = 0.5
#: Writing and bars are flat: more of their pixels than this differ from the left one by 1 or less.
FLAT_SHARE: Final = 0.6
#: Parts of the picture that a scan covers: a form or a plot without dark surroundings is none.
SMALLEST_SHARE, LARGEST_SHARE = 0.10, 0.92
#: Of all blocks that look like a scan this part or more lies in the largest patch.
MAIN_SHARE: Final = 0.8
#: A filled patch has this part or more of blocks of its own: lines of writing are full of holes.
DENSE_SHARE: Final = 0.6
#: What is narrower, across or down, than this part of the picture's shorter side is no scan: lines
#: of writing that touch one.
NARROW_SHARE: Final = 1 / 6
#: Cutting off what is narrow leaves this part or more of a scan.
BROAD_SHARE: Final = 0.75


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanArea:
    """Where a scan lies."""

    box: Box
    #: (box.height, box.width), False where something else may stand; None takes all of the box
    inside: NDArray[np.bool_] | None = None

    def cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the scan, a copy: nothing outside stays reachable from what is stored."""
        pixels = frame[self.box.slices].copy()
        if self.inside is not None:
            pixels[~self.inside] = 0
        return pixels


def around(box: Box, overlaid: Sequence[Box]) -> ScanArea:
    """Return the area of a box without what is drawn over it.

    Parameters
    ----------
    box : Box
    overlaid : sequence of Box
        Parts of the box, as places in the picture.
    """
    if not overlaid:
        return ScanArea(box=box)
    inside = np.ones((box.height, box.width), dtype=np.bool_)
    for one in overlaid:
        inside[
            one.top - box.top : one.bottom - box.top, one.left - box.left : one.right - box.left
        ] = False
    return ScanArea(box=box, inside=inside)


def scan_area(frame: NDArray[np.uint8]) -> ScanArea | None:
    """Find the scan in a picture.

    Parameters
    ----------
    frame : ndarray of uint8, shape (R, C)
        Grey.

    Returns
    -------
    ScanArea or None
        None where it is not clear which part of the picture is the scan.
    """
    blocks = _speckled(frame)
    if not blocks.any():
        return None
    patch = _largest(blocks)
    filled = _filled(patch)
    broad = _broad(filled)
    # a block at the edge may hold a piece of what stands beside the scan
    kept = _fitting(np.pad(broad, 1), 3)
    is_clear = (
        kept.mean() >= SMALLEST_SHARE
        and broad.mean() <= LARGEST_SHARE
        and patch.sum() >= MAIN_SHARE * blocks.sum()
        and patch.sum() >= DENSE_SHARE * filled.sum()
        and broad.sum() >= BROAD_SHARE * filled.sum()
    )
    if not is_clear:
        return None
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    box = Box(
        left=int(columns[0]) * BLOCK,
        top=int(rows[0]) * BLOCK,
        right=int(columns[-1] + 1) * BLOCK,
        bottom=int(rows[-1] + 1) * BLOCK,
    )
    inside = kept.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[box.slices]
    return ScanArea(box=box, inside=inside)


def _speckled(frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which blocks look like a scan; rows and columns that fill no block are left out."""
    down, across = (length // BLOCK for length in frame.shape)
    whole = frame[: down * BLOCK, : across * BLOCK].astype(np.int16)
    step = np.abs(np.diff(whole, axis=1, prepend=whole[:, :1] - 255))

    def share(holds: NDArray[np.bool_]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = holds.reshape(down, BLOCK, across, BLOCK).mean(axis=(1, 3))
        return mean

    found: NDArray[np.bool_] = (share(whole > LIT_GREY) >= LIT_SHARE) & (
        share(step <= 1) <= FLAT_SHARE
    )
    return found


def _largest(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest patch of blocks that touch each other by their sides."""
    names = np.where(blocks, np.arange(1, blocks.size + 1).reshape(blocks.shape), 0)
    while True:
        padded = np.pad(names, 1)
        beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        spread = np.where(blocks, np.maximum.reduce((names, *beside)), 0)
        if np.array_equal(spread, names):
            break
        names = spread
    sizes = np.bincount(names.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = names == sizes.argmax()
    return largest


def _filled(patch: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the patch with what lies between its blocks both across and down: a cyst is dark."""

    def between(axis: int) -> NDArray[np.bool_]:
        before = np.logical_or.accumulate(patch, axis=axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(patch, axis), axis=axis), axis)
        both: NDArray[np.bool_] = before & behind
        return both

    filled: NDArray[np.bool_] = between(0) & between(1)
    return filled


def _broad(patch: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what of the patch a square of some blocks can cover without leaving it."""
    side = max(2, round(NARROW_SHARE * min(patch.shape)))
    fits = _fitting(patch, side)
    broad = np.zeros_like(patch)
    for down, across in np.ndindex(side, side):
        broad[down : down + fits.shape[0], across : across + fits.shape[1]] |= fits
    return broad


def _fitting(patch: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Return where the first block of a square stands that lies in the patch as a whole."""
    fits: NDArray[np.bool_] = np.all(sliding_window_view(patch, (side, side)), axis=(2, 3))
    return fits

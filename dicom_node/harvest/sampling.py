"""Which frames of a cine are worth keeping: neighbours in time show nearly the same."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Two frames are nearly the same when no block of them differs by more than this grey, on average.
#: Real cines: at most 4.6 from frame to frame (33 ms) where next to nothing moves, 6.6 to 90 where
#: something does, and at least 6.7 after a third of a second.
NEAR_GREY: Final = 5.0
#: Side of a block, in pixels of the frame; every second row and column of it is looked at.
BLOCK: Final = 32
STEP: Final = 2


def sampled(
    number_of_frames: int,
    *,
    frame_time_s: float | None,
    frames_per_s: float,
    most_frames: int,
) -> list[int]:
    """Choose frames evenly in time.

    Parameters
    ----------
    number_of_frames : int
        Length of the cine.
    frame_time_s : float, optional
        Time from one frame to the next. Where the header does not say it, frames are only thinned
        out to `most_frames`.
    frames_per_s : float
        How many frames to keep of a second.
    most_frames : int
        How many frames to keep at most; a longer cine is thinned out further, over all its length.

    Returns
    -------
    list of int
        1-based frame numbers, ascending; the first frame is always among them.
    """
    step = 1.0 if frame_time_s is None else max(1.0, 1 / (frame_time_s * frames_per_s))
    step = max(step, number_of_frames / most_frames)
    # rounded before it is counted: 10 frames at a step of 3.3333 are 4, not 3
    count = min(most_frames, int(round((number_of_frames - 1) / step, 6)) + 1)
    return [1 + int(place * step + 1e-6) for place in range(count)]


def hardly_differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether nothing but noise tells two frames of a clip apart.

    Blocks are compared, not the whole: a valve that opens is a small part of a still picture.
    """
    if one.shape != other.shape:
        return False
    a, b = one[::STEP, ::STEP], other[::STEP, ::STEP]
    change = np.maximum(a, b) - np.minimum(a, b)
    side = BLOCK // STEP
    starts = [np.arange(0, length, side) for length in change.shape]
    sums = np.add.reduceat(
        np.add.reduceat(change, starts[0], axis=0, dtype=np.uint32), starts[1], axis=1
    )
    # blocks at the edges are smaller
    sizes = [np.diff([*start, length]) for start, length in zip(starts, change.shape, strict=True)]
    return bool((sums <= NEAR_GREY * np.outer(*sizes)).all())

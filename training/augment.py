"""Random changes of training frames that leave their labels true.

The papers name a random flip and vertical and horizontal shifts and leave the amounts open; those
here are this project's choice.
"""

import numpy as np
from numpy.typing import NDArray

FLIP_PROBABILITY = 0.5
#: largest shift in parts of the height or width
LARGEST_SHIFT = 0.10


def augment(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Flip left to right and shift, the same for frame and mask; what moves in is 0.

    Parameters
    ----------
    frame : ndarray of uint8, shape (H, W)
    mask : ndarray of uint8, shape (H, W), optional
    rng : Generator
        Decides; the same state gives the same change.
    """
    flip = rng.random() < FLIP_PROBABILITY
    shift = [round(rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * size) for size in frame.shape]

    def change(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _shifted(picture[:, ::-1] if flip else picture, down=shift[0], right=shift[1])

    return change(frame), None if mask is None else change(mask)


def _shifted(picture: NDArray[np.uint8], *, down: int, right: int) -> NDArray[np.uint8]:
    out = np.zeros_like(picture)
    rows, columns = picture.shape
    out[max(down, 0) : rows + down, max(right, 0) : columns + right] = picture[
        max(-down, 0) : rows - down, max(-right, 0) : columns - right
    ]
    return out

"""Random changes of training frames that leave their labels true.

The papers name a random flip and vertical and horizontal shifts and leave the amounts open; those
here are this project's choice.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FLIP_PROBABILITY: Final = 0.5
#: largest shift in parts of the height or width
LARGEST_SHIFT: Final = 0.10


def draw(count: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the changes of some frames.

    Parameters
    ----------
    count : int
        Number of frames, B.
    size : tuple of int
        (H, W) of a frame.
    rng : Generator
        Decides; the same state gives the same changes.

    Returns
    -------
    ndarray of int64, shape (B, 3)
        1 to flip left to right; shift down; shift to the right, both in pixels.
    """
    flips = rng.random(count) < FLIP_PROBABILITY
    shifts = rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, (count, 2)) * np.array(size)  # (B, 2)
    return np.column_stack((flips, np.rint(shifts))).astype(np.int64)


def apply(pictures: Tensor, changes: Tensor) -> Tensor:
    """Flip left to right, then shift; what moves in is 0.

    Parameters
    ----------
    pictures : Tensor, shape (B, C, H, W)
        Frames or label maps; the same changes keep them together.
    changes : Tensor of int64, shape (B, 3)
        Of `draw`, on the device of the pictures.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        Of the type of the pictures.
    """
    height, width = pictures.shape[2:]
    flip, down, right = changes[:, 0:1], changes[:, 1:2], changes[:, 2:3]  # (B, 1) each
    row = torch.arange(height, device=pictures.device) - down  # (B, H): where each comes from
    column = torch.arange(width, device=pictures.device) - right  # (B, W)
    row_inside = (row >= 0) & (row < height)
    column_inside = (column >= 0) & (column < width)
    column = torch.where(flip.bool(), width - 1 - column, column).clamp(0, width - 1)
    moved = pictures.gather(2, row.clamp(0, height - 1)[:, None, :, None].expand_as(pictures))
    moved = moved.gather(3, column[:, None, None, :].expand_as(pictures))
    inside = row_inside[:, None, :, None] & column_inside[:, None, None, :]
    return torch.where(inside, moved, torch.zeros_like(moved))

"""Measures on phantoms' label maps, written as slow loops on purpose."""

import numpy as np
from numpy.typing import NDArray


def interface_columns(label_map: NDArray[np.uint8], reach_px: int) -> set[int]:
    """Return the columns in which kidney begins at most `reach_px` below liver.

    Parameters
    ----------
    label_map : array
        uint8 (R, C), 1 liver, 2 kidney.
    reach_px : int
        How far apart they may lie in pixels.
    """
    found = set()
    for column in range(label_map.shape[1]):
        kidney = np.flatnonzero(label_map[:, column] == 2)
        liver = np.flatnonzero(label_map[:, column] == 1)
        above = liver[liver < kidney[0]] if kidney.size else liver[:0]
        if above.size and kidney[0] - above[-1] <= reach_px:
            found.add(column)
    return found

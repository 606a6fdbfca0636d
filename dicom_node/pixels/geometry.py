"""The way from source pixels to network pixels and back; training and serving share it.

Only Pillow and NumPy are needed here, so that a training machine can use it.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.records import Box


def to_network(
    frame: NDArray[np.uint8],
    region: Box | None,
    *,
    height: int,
    width: int,
    nearest: bool = False,
) -> NDArray[np.uint8]:
    """Crop a frame to its region and resize it to a network's input.

    Parameters
    ----------
    frame : ndarray of uint8, shape (R, C)
        A grey frame, or a label map in source geometry.
    region : Box, optional
        Inside the frame, in source pixels; the whole frame when None.
    height, width : int
        Size of the network's input in pixels.
    nearest : bool
        Take the nearest source pixel, as label maps need it. Otherwise bilinear, averaged over the
        covered source pixels where the picture shrinks.

    Returns
    -------
    ndarray of uint8, shape (height, width)

    Raises
    ------
    ValueError
        When the region is empty or leaves the frame.
    """
    region = _checked(region, rows=frame.shape[0], columns=frame.shape[1])
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    crop = Image.fromarray(np.ascontiguousarray(frame[region.slices]))
    return np.array(crop.resize((width, height), how))


def to_source(
    probabilities: NDArray[np.float32], region: Box | None, *, rows: int, columns: int
) -> NDArray[np.uint8]:
    """Bring the probabilities of one frame back to source pixels as a label map.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (K, H, W)
        Channel 0 is background, 1 <= K <= 256.
    region : Box, optional
        The region that the network saw; the whole image when None.
    rows, columns : int
        Size of the source image.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        The most probable channel, the lower one where two are equal; 0 outside the region.

    Raises
    ------
    ValueError
        When the region is empty or leaves the image.
    """
    region = _checked(region, rows=rows, columns=columns)
    size = (region.width, region.height)
    best = np.full((region.height, region.width), -np.inf, np.float32)
    label = np.zeros((region.height, region.width), np.uint8)
    # channel by channel: K full-size float planes of a large image would not fit
    for value, channel in enumerate(probabilities):
        plane = Image.fromarray(np.ascontiguousarray(channel, np.float32))
        resized = np.asarray(plane.resize(size, Image.Resampling.BILINEAR))
        wins = resized > best
        label[wins] = value
        np.maximum(best, resized, out=best)
    source = np.zeros((rows, columns), np.uint8)
    source[region.slices] = label
    return source


def _checked(region: Box | None, *, rows: int, columns: int) -> Box:
    if region is None:
        return Box(left=0, top=0, right=columns, bottom=rows)
    inside = 0 <= region.left < region.right <= columns and 0 <= region.top < region.bottom <= rows
    if not inside:
        raise ValueError(f"{region} is no part of an image of {rows} rows and {columns} columns")
    return region

"""Decoded samples to the values that are stored: in CT and MR the numbers mean something."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import PixelError

MOST_BITS: Final = 16


def stored_values(header: Dataset) -> Callable[[NDArray[Any]], NDArray[np.int32]]:
    """Return the function that turns this image's decoded frames into signed numbers.

    Parameters
    ----------
    header : Dataset
        Holds group 0028 of the image.

    Raises
    ------
    PixelError
        When the image is in colour, or its samples have more than 16 bits.
    """
    bits = int(header.BitsStored)
    if not 1 <= bits <= MOST_BITS:
        raise PixelError(f"Bits Stored (0028,0101) is {bits}; the node reads 1 to {MOST_BITS}")
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") not in {
        "MONOCHROME1",
        "MONOCHROME2",
    }:
        raise PixelError("the image is no grey one; volumes are made of MONOCHROME1 and 2")
    is_signed = header.get("PixelRepresentation") == 1

    def values(samples: NDArray[Any]) -> NDArray[np.int32]:
        native = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        # bits above Bits Stored may hold overlays (PS3.5 8.1.2)
        kept = (native.view(f"u{native.dtype.itemsize}") & (2**bits - 1)).astype(np.int32)
        if is_signed:
            kept[kept >= 2 ** (bits - 1)] -= 2**bits
        return np.ascontiguousarray(kept)

    return values

"""Decoded samples to 8-bit grey.

====================  ==========================================================
Photometric Interpr.  grey
====================  ==========================================================
MONOCHROME2           the stored value
MONOCHROME1           the stored value, inverted
PALETTE COLOR         luma of the palette's colour
RGB                   luma: 0.299 R + 0.587 G + 0.114 B (PS3.3 C.7.6.3.1.2)
YBR_FULL, _FULL_422   Y, which is the same luma
====================  ==========================================================

Values of more than 8 bits keep their 8 most significant of Bits Stored; no window, modality or
presentation look-up is applied.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from dicom_node.errors import PixelError

PALETTES: Final = tuple(
    f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")
)
MOST_BITS: Final = 16


def converter(
    header: Dataset, *, big_endian: bool
) -> Callable[[NDArray[Any], str], NDArray[np.uint8]]:
    """Return the function that turns this image's decoded frames into grey.

    Parameters
    ----------
    header : Dataset
        Holds group 0028 of the image.
    big_endian : bool
        Whether the data set is: 16-bit palettes are kept in its byte order.

    Returns
    -------
    callable
        Takes samples, (R, C) or (R, C, 3), and the Photometric Interpretation that they have after
        decoding; returns uint8, (R, C).

    Raises
    ------
    PixelError
        When samples have more than 16 bits.
    """
    bits = int(header.BitsStored)
    if not 1 <= bits <= MOST_BITS:
        raise PixelError(f"Bits Stored (0028,0101) is {bits}; the node reads 1 to {MOST_BITS}")
    tables: dict[str, NDArray[np.uint8]] = {}

    def to_grey(samples: NDArray[Any], photometric: str) -> NDArray[np.uint8]:
        if samples.ndim == 3:
            return _from_colour(samples, photometric, bits)
        if bits == 8 and photometric == "MONOCHROME2" and samples.dtype == np.uint8:
            return np.ascontiguousarray(samples)
        if photometric not in tables:
            tables[photometric] = _table(header, photometric, bits, big_endian=big_endian)
        # bits above Bits Stored may hold overlays (PS3.5 8.1.2)
        native = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        index = native.view(f"u{native.dtype.itemsize}") & (2**bits - 1)
        grey: NDArray[np.uint8] = tables[photometric][index]
        return grey

    return to_grey


def _from_colour(samples: NDArray[Any], photometric: str, bits: int) -> NDArray[np.uint8]:
    if samples.dtype != np.uint8:
        samples = (samples >> max(0, bits - 8)).astype(np.uint8)
    if photometric == "RGB":
        return np.array(Image.fromarray(np.ascontiguousarray(samples)).convert("L"))
    if photometric in {"YBR_FULL", "YBR_FULL_422"}:
        return np.ascontiguousarray(samples[..., 0])
    raise PixelError(f"Photometric Interpretation {photometric[:16]!r} is not one the node reads")


def _table(header: Dataset, photometric: str, bits: int, *, big_endian: bool) -> NDArray[np.uint8]:
    """Return the grey of every stored value, uint8, (2**bits,)."""
    values = np.arange(2**bits)
    if photometric == "PALETTE COLOR":
        return _palette(header, values, big_endian=big_endian)
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise PixelError(
            f"Photometric Interpretation {photometric[:16]!r} is not one the node reads"
        )
    if header.get("PixelRepresentation") == 1:
        values = values ^ (1 << (bits - 1))  # two's complement: the smallest value is the darkest
    grey = values >> (bits - 8) if bits > 8 else values * 255 // (2**bits - 1)
    return (255 - grey if photometric == "MONOCHROME1" else grey).astype(np.uint8)


def _palette(header: Dataset, values: NDArray[np.int64], *, big_endian: bool) -> NDArray[np.uint8]:
    if big_endian and header.RedPaletteColorLookupTableDescriptor[2] == 16:
        # pydicom takes the tables for little endian
        for keyword in PALETTES:
            if keyword in header:
                swapped = np.frombuffer(header[keyword].value, ">u2").astype("<u2")
                header[keyword].value = swapped.tobytes()
    colours = apply_color_lut(values, header)[..., :3]
    if colours.max(initial=0) > 255:
        colours = colours >> 8
    rgb = np.ascontiguousarray(colours[None], np.uint8)  # (1, 2**bits, 3)
    table: NDArray[np.uint8] = np.array(Image.fromarray(rgb).convert("L"))[0]
    return table

"""Frames of one file to 8-bit grey, one at a time, nothing decoded that was not checked.

This runs in the process of `dicom_node.pixels.sandbox`: decoders are C code that strangers' bytes
reach.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node.errors import PixelError
from dicom_node.header import BROKEN_BYTES
from dicom_node.pixels.codestream import stated_size
from dicom_node.pixels.grey import converter
from dicom_node.pixels.stored import stored_values

EXPLICIT_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
NATIVE: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", EXPLICIT_BIG_ENDIAN})
RLE: Final = "1.2.840.10008.1.2.5"
#: One decoder for each transfer syntax: trying all of them is how forged files cost gigabytes.
DECODER_OF: Final = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51": "gdcm",  # JPEG Extended, 12 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000, through openjpeg
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
    RLE: "pylibjpeg",
}
PIXEL_DATA: Final = 0x7FE00010
#: Extended Offset Table and its lengths, Float and Double Float Pixel Data stand before or beside.
FIRST_PIXEL_TAG: Final = 0x7FE00008
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
#: Group 0028 as far as pixels need it.
TAGS: Final = [
    *(0x00280000 + element for element in (0x02, 0x04, 0x06, 0x08, 0x10, 0x11)),
    *(0x00280000 + element for element in (0x100, 0x101, 0x102, 0x103)),
    *(0x00280000 + element for element in (0x1101, 0x1102, 0x1103, 0x1201, 0x1202, 0x1203)),
    *(0x00280000 + element for element in (0x1221, 0x1222, 0x1223)),
    0x7FE00001,
    0x7FE00002,
]


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """An open file whose position is the first byte of Pixel Data's value."""

    file: BinaryIO
    header: FileDataset
    transfer_syntax_uid: str
    options: dict[str, Any]
    size_bytes: int


#: Of an open file, the frames of these numbers.
_Make = Callable[[_Pixels, Sequence[int]], Iterator[tuple[int, NDArray[Any]]]]


def decode(path: Path, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode frames of a file.

    Parameters
    ----------
    path : Path
        A DICOM file with File Meta Information.
    numbers : sequence of int
        1-based frame numbers, ascending, each once.

    Yields
    ------
    int
        The frame number.
    ndarray of uint8, shape (R, C)
        Its grey picture.

    Raises
    ------
    PixelError
        When the pixels cannot be decoded, are less than the header says, or other than it says.
    """
    yield from _decoded(path, numbers, _grey_frames)


def decode_stored(path: Path, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Decode frames as `decode` does, to the values that are stored: int32, (R, C)."""
    yield from _decoded(path, numbers, _stored_frames)


def _decoded(path: Path, numbers: Sequence[int], make: _Make) -> Iterator[tuple[int, NDArray[Any]]]:
    try:
        with path.open("rb") as file:
            pixels = _open(file)
            _check_numbers(numbers, pixels.options["number_of_frames"])
            yield from make(pixels, numbers)
    except PixelError:
        raise
    except (*BROKEN_BYTES, AssertionError, RuntimeError, StopIteration) as exc:
        raise PixelError(f"the pixels cannot be decoded ({type(exc).__name__})") from None


def _grey_frames(
    pixels: _Pixels, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    big_endian = pixels.transfer_syntax_uid == EXPLICIT_BIG_ENDIAN
    to_grey = converter(pixels.header, big_endian=big_endian)
    for number, frame, properties in _samples(pixels, numbers):
        yield number, to_grey(frame, str(properties["photometric_interpretation"]))


def _stored_frames(
    pixels: _Pixels, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    values = stored_values(pixels.header)
    for number, frame, _ in _samples(pixels, numbers):
        yield number, values(frame)


def _samples(
    pixels: _Pixels, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[Any], dict[str, Any]]]:
    is_native = pixels.transfer_syntax_uid in NATIVE
    yield from (_native if is_native else _encapsulated)(pixels, numbers)


def _open(file: BinaryIO) -> _Pixels:
    """Read up to Pixel Data and check what can be checked without it."""
    found: list[tuple[int, str | None, int]] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag >= FIRST_PIXEL_TAG:
            found.append((tag, vr, length))
        return bool(found)

    header = read_partial(file, at_pixels, specific_tags=list(TAGS))
    if not found or found[0][0] != PIXEL_DATA:
        raise PixelError("no Pixel Data (7FE0,0010): not an image, or cut off on its way")
    _, vr, length = found[0]
    uid = str(header.file_meta.get("TransferSyntaxUID", ""))
    if uid not in NATIVE and uid not in DECODER_OF:
        raise PixelError(
            f"no decoder for transfer syntax {uid[:64]!r}; have the PACS send another one"
        )
    file.seek(12 if vr in EXPLICIT_VR_LENGTH_32 else 8, 1)
    value_at = file.tell()
    left = file.seek(0, 2) - value_at
    file.seek(value_at)
    if (length == UNDEFINED_LENGTH) == (uid in NATIVE):
        raise PixelError(
            f"Pixel Data is not encoded as transfer syntax {uid} has it; send the object again"
        )
    options = as_pixel_options(header, pixel_keyword="PixelData", pixel_vr=vr or "OW")
    return _Pixels(
        file=file,
        header=header,
        transfer_syntax_uid=uid,
        options=options,
        size_bytes=min(length, left),
    )


def _check_numbers(numbers: Sequence[int], number_of_frames: int) -> None:
    if list(numbers) != sorted(set(numbers)) or (numbers and numbers[0] < 1):
        raise PixelError("frame numbers are to be ascending from 1")
    if numbers and numbers[-1] > number_of_frames:
        raise PixelError(f"frame {numbers[-1]} was asked for, the header has {number_of_frames}")


def _native(
    pixels: _Pixels, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[Any], dict[str, Any]]]:
    options = pixels.options
    bits = options["rows"] * options["columns"] * options["number_of_frames"]
    bits *= options["samples_per_pixel"] * options["bits_allocated"]
    if options["photometric_interpretation"] == "YBR_FULL_422":
        bits = bits * 2 // 3  # PS3.3 C.7.6.3.1.2: two pixels share their colour
    if pixels.size_bytes < (bits + 7) // 8:
        raise PixelError(
            f"Pixel Data holds {pixels.size_bytes} bytes where the header promises "
            f"{(bits + 7) // 8}; send the object again"
        )
    if not numbers:
        return
    frames = get_decoder(pixels.transfer_syntax_uid).iter_array(
        pixels.file, indices=[number - 1 for number in numbers], raw=True, **options
    )
    for number, (frame, properties) in zip(numbers, frames, strict=True):
        yield number, frame, properties


def _encapsulated(
    pixels: _Pixels, numbers: Sequence[int]
) -> Iterator[tuple[int, NDArray[Any], dict[str, Any]]]:
    options = dict(pixels.options)
    decoder = get_decoder(pixels.transfer_syntax_uid)
    frames = generate_frames(
        pixels.file,
        number_of_frames=options["number_of_frames"],
        extended_offsets=options.pop("extended_offsets", None),
    )
    wanted = iter(numbers)
    next_wanted = next(wanted, None)
    for number, encoded in enumerate(frames, start=1):
        if next_wanted is None:
            return
        if number == next_wanted:
            _check_codestream(encoded, number, pixels)
            frame, properties = decoder.as_array(
                encapsulate([encoded]),
                index=0,
                raw=True,
                decoding_plugin=DECODER_OF[pixels.transfer_syntax_uid],
                **(options | {"number_of_frames": 1}),
            )
            yield number, frame, properties
            next_wanted = next(wanted, None)
    if next_wanted is not None:
        raise PixelError(f"Pixel Data ends before frame {next_wanted}; send the object again")


def _check_codestream(encoded: bytes, number: int, pixels: _Pixels) -> None:
    if pixels.transfer_syntax_uid == RLE:
        return
    stated = stated_size(encoded)
    expected = pixels.options["rows"], pixels.options["columns"]
    if stated != expected:
        found = "no size" if stated is None else f"{stated[0]} x {stated[1]} pixels"
        raise PixelError(
            f"frame {number}: its codestream states {found}, the header "
            f"{expected[0]} x {expected[1]}; not decoded"
        )

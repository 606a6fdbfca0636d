"""Look through one shard of an export: each byte follows from rows and pixels, nothing else.

What a tar says of a file besides its name and size (owner, time, links, extended headers) is held
against the header that an export writes, and what lies between and behind the files against zeros.
"""

import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.store import export_samples

BLOCK: Final = tarfile.BLOCKSIZE
#: Of what a sample has besides pixels.
_MOST_WORDS: Final = 4096
_SIZE: Final = slice(124, 136)
_STRANGE: Final = "a file that no export has"
_HEADER: Final = "a file of which more is said than its name and size"
_PIXELS: Final = "pixels that are not those of the index"
_WORDS: Final = "words that are not those of the rows"
_BETWEEN: Final = "bytes that belong to no file"
_MISSING: Final = "less than the rows say"
#: Names in a shard end so.
FRAME, MASK, WORDS = "frame.npy", "mask.npy", "json"


@dataclass(frozen=True, kw_only=True)
class Described:
    """An export as its description has it, which says nothing else."""

    #: H, W
    size: tuple[int, int]
    #: columns of ``rows.npz`` and of ``index.npz``
    rows: Mapping[str, NDArray[Any]]
    index: Mapping[str, NDArray[Any]]
    #: what its words for a row are
    words: Callable[[int], bytes]

    def of_shard(self, number: int) -> dict[str, tuple[int, str]]:
        """Return row and kind of each file that a shard has, by name."""
        found: dict[str, tuple[int, str]] = {}
        for row in np.flatnonzero(self.index["shard"] == number).tolist():
            kinds = (FRAME, MASK, WORDS) if self.rows["has_mask"][row] else (FRAME, WORDS)
            found |= {f"{self.rows['frame_id'][row]}.{kind}": (row, kind) for kind in kinds}
        return found


def shard_faults(path: Path, number: int, described: Described) -> list[str]:
    """Return what is wrong with a shard, each fault once; none of them quotes what was found.

    Parameters
    ----------
    path : Path
    number : int
        Of the shard.
    described : Described
    """
    left = described.of_shard(number)
    with path.open("rb") as file:
        faults = list(_walked(file, left, described))
    return list(dict.fromkeys([*faults, *[_MISSING] * bool(left)]))


def _walked(
    file: BinaryIO, left: dict[str, tuple[int, str]], described: Described
) -> Iterator[str]:
    """Yield faults, file by file, and take out of `left` what was found."""
    height, width = described.size
    while any(head := file.read(BLOCK)):
        name = head[:100].rstrip(b"\0").decode("ascii", "replace")
        size_bytes = _size(head)
        if size_bytes is None or size_bytes > height * width + _MOST_WORDS:
            yield _HEADER
            return
        begin, content = file.tell(), file.read(size_bytes)
        if any(file.read(-size_bytes % BLOCK)):
            yield _BETWEEN
        row_and_kind = left.pop(name, None)
        if row_and_kind is None:
            yield _STRANGE
            continue
        if head != export_samples.member(name, size_bytes).tobuf(tarfile.USTAR_FORMAT):
            yield _HEADER
        yield from _misfit(content, begin, *row_and_kind, described)
    if any(file.read()) or file.tell() % tarfile.RECORDSIZE:
        yield _BETWEEN


def _size(head: bytes) -> int | None:
    try:
        return int(head[_SIZE].strip(b" \0"), 8)
    except ValueError:
        return None


def _misfit(content: bytes, begin: int, row: int, kind: str, described: Described) -> Iterator[str]:
    if kind == WORDS:
        if content != described.words(row):
            yield _WORDS
        return
    height, width = described.size
    column = kind.removesuffix(".npy")
    pixels = content[-height * width :]
    at = begin + len(content) - len(pixels)
    told = described.index[column][row], described.index[f"{column}_crc"][row]
    if (at, zlib.crc32(pixels)) != tuple(map(int, told)):
        yield _PIXELS
    if len(pixels) != height * width:
        yield _PIXELS
    elif content != export_samples.as_array(np.frombuffer(pixels, np.uint8).reshape(height, width)):
        yield _HEADER

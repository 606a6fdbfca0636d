"""Read headers of files that nobody has checked.

Only named attributes are parsed, Pixel Data is never touched, and nothing iterates over the data
set: iteration is where hostile files explode (stray delimiters, deep nesting).
"""

import functools
import struct
from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from dicom_node.errors import UnreadableError

#: What pydicom raises on broken bytes, seen on the malformed files of the test data.
BROKEN_BYTES = (
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
#: (0002,0000) UL, length 4: File Meta Information begins with its own length (PS3.10 7.1)
_GROUP_LENGTH = b"DICM\x02\x00\x00\x00UL\x04\x00"
#: pydicom inflates such a file as a whole, a thousandfold if its maker wills it, to read one tag.
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})


def read_header(path: Path, keywords: Iterable[str | int]) -> FileDataset:
    """Read the named attributes of a DICOM file.

    Parameters
    ----------
    path : Path
        A file with preamble and File Meta Information (PS3.10).
    keywords : iterable of str or int
        Attribute keywords, and tags of private attributes; everything else is skipped unparsed.

    Returns
    -------
    FileDataset
        Holds at most the named attributes. Values are parsed on first access and may still raise
        one of `BROKEN_BYTES`.

    Raises
    ------
    UnreadableError
        When the bytes cannot be parsed, or are deflated. The message never quotes them.
    """
    try:
        if read_file_meta_info(path).get("TransferSyntaxUID") in DEFLATED:
            raise UnreadableError("deflated data sets are not read; send it in another syntax")
        return dcmread(path, stop_before_pixels=True, specific_tags=_tags(tuple(keywords)))
    except BROKEN_BYTES as exc:
        raise UnreadableError(f"not readable as DICOM ({type(exc).__name__})") from None


@functools.cache
def _tags(keywords: tuple[str | int, ...]) -> list[BaseTag]:
    return [Tag(keyword) for keyword in keywords]


def data_set_offset(path: Path) -> int:
    """Return where the data set of a DICOM file begins, in bytes.

    Raises
    ------
    UnreadableError
        When File Meta Information does not begin with its length (PS3.10 7.1).
    OSError
        When the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(128 + len(_GROUP_LENGTH) + 4)
    if start[128:-4] != _GROUP_LENGTH:
        raise UnreadableError("File Meta Information does not begin with its length")
    return len(start) + int.from_bytes(start[-4:], "little")


def data_set_bytes(path: Path) -> int:
    """Return the length of the data set of a DICOM file, in bytes; raises as `data_set_offset`."""
    return path.stat().st_size - data_set_offset(path)


def text(header: Dataset, keyword: str) -> str:
    r"""Return an attribute as text, multiple values joined by ``\``, "" when absent.

    Raises
    ------
    UnreadableError
        When the stored bytes do not parse as the attribute's VR.
    """
    try:
        value = header.get(keyword)
        if value is None:
            return ""
        if isinstance(value, str | int | float | PersonName):
            return str(value).strip(" \0")
        return "\\".join(str(v if v is not None else "") for v in value).strip(" \0")
    except BROKEN_BYTES as exc:
        raise UnreadableError(f"{keyword} is not readable ({type(exc).__name__})") from None

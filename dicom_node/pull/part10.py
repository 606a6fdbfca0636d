"""Where the data set of a DICOM file begins, and what its File Meta Information says (PS3.10 7.1).

For files that this node did not write: they may lack the length of the group, which
`header.data_set_offset` relies on.
"""

import struct
from dataclasses import dataclass
from typing import Final

from dicom_node.errors import UnreadableError

#: File Meta Information stands in so many bytes of a file.
HEAD_BYTES: Final = 1 << 16
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_PREAMBLE: Final = 128
_PREFIX: Final = b"DICM"
_ELEMENT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")
#: VRs whose length stands in four bytes after two reserved ones (PS3.5 7.1.2)
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
#: What a data set begins with: a group, and the last element that may be the first of it.
_FIRST_ELEMENTS: Final = {0x0002: 0x0010, 0x0008: 0x0018}
_FIRST_VRS: Final = frozenset({b"CS", b"DA", b"OB", b"SH", b"TM", b"UI", b"UL"})
_LONGEST_FIRST: Final = 128
_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True, kw_only=True)
class FileMeta:
    """What File Meta Information says, "" where it does not."""

    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    transfer_syntax_uid: str
    #: of the data set, in bytes
    offset: int


def is_part10(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a DICOM file."""
    return head[_PREAMBLE : _PREAMBLE + len(_PREFIX)] == _PREFIX


def is_bare(head: bytes) -> bool:
    """Whether a file begins as a DICOM data set does, or as File Meta Information, unprefixed.

    It is DICOM, but no DICOM file (PS3.10 7.1): how it is encoded would have to be guessed.
    """
    if len(head) < _ELEMENT.size:
        return False
    group, element, vr, _ = _ELEMENT.unpack_from(head)
    [implicit_length] = _LONG.unpack_from(head, 4)
    if element > _FIRST_ELEMENTS.get(group, -1):
        return False
    return vr in _FIRST_VRS or implicit_length <= _LONGEST_FIRST


def file_meta_of(head: bytes) -> FileMeta:
    """Read File Meta Information out of the first `HEAD_BYTES` of a file.

    Raises
    ------
    UnreadableError
        When the file is not DICOM, or has no data set in reach. The message quotes nothing of it.
    """
    if not is_part10(head):
        raise UnreadableError("no DICOM file: it has no preamble and prefix")
    values: dict[int, str] = {}
    at = _PREAMBLE + len(_PREFIX)
    while True:
        if at + _ELEMENT.size > len(head):
            raise UnreadableError("the file ends in its File Meta Information")
        group, element, vr, length = _ELEMENT.unpack_from(head, at)
        if group != 0x0002:
            break
        at += _ELEMENT.size
        if vr in _LONG_VRS:
            if at + _LONG.size > len(head):
                raise UnreadableError("the file ends in its File Meta Information")
            [length] = _LONG.unpack_from(head, at)
            at += _LONG.size
        values[element] = head[at : at + length].decode("ascii", "replace").strip(" \0")
        at += length
    return FileMeta(
        media_storage_sop_class_uid=values.get(_CLASS, ""),
        media_storage_sop_instance_uid=values.get(_INSTANCE, ""),
        transfer_syntax_uid=values.get(_SYNTAX, ""),
        offset=at,
    )

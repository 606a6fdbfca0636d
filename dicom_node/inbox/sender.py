"""Who sent a received file: it stands in the File Meta Information that the receiver wrote."""

import struct
from pathlib import Path
from typing import Final

#: of File Meta Information, which takes some hundred bytes
_READ_BYTES: Final = 2048
#: after preamble, prefix and (0002,0000) with its value (PS3.10 7.1)
_FIRST: Final = 128 + 4 + 12
_ELEMENT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")
_SOURCE_APPLICATION_ENTITY_TITLE: Final = (0x0002, 0x0016)


def sender_of(path: Path) -> str:
    """Return Source Application Entity Title (0002,0016), "" where a file does not say.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_READ_BYTES)
    at = _FIRST
    while at + _ELEMENT.size <= len(head):
        group, element, vr, length = _ELEMENT.unpack_from(head, at)
        at += _ELEMENT.size
        if group != 0x0002:
            break
        if (group, element) == _SOURCE_APPLICATION_ENTITY_TITLE:
            return head[at : at + length].decode("ascii", "replace").strip(" \0")
        if vr == b"OB":  # the one long form here: its length follows two reserved bytes
            if at + _LONG.size > len(head):
                break
            length = _LONG.size + _LONG.unpack_from(head, at)[0]
        at += length
    return ""

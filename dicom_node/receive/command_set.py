"""Command sets (PS3.7 6.3.1, Annex E) as bytes: Implicit VR Little Endian, group 0000 alone.

Reading and writing them through data sets takes longer than storing a small object.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from dicom_node.errors import UnreadableError

#: Value of each element as sent, by element number.
CommandSet: TypeAlias = Mapping[int, bytes]

AFFECTED_SOP_CLASS_UID: Final = 0x0002
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
COMMAND_DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
ERROR_COMMENT: Final = 0x0902
AFFECTED_SOP_INSTANCE_UID: Final = 0x1000

#: Command Field (PS3.7 E.1)
C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
N_EVENT_REPORT_RQ: Final = 0x0100
#: Command Data Set Type: no data set follows
NO_DATA_SET: Final = 0x0101

#: group, element, length
_ELEMENT: Final = struct.Struct("<HHL")
#: length of what follows, context, Message Control Header (PS3.8 9.3.5, E.2)
_PDV: Final = struct.Struct(">LBB")
_P_DATA_TF: Final = struct.Struct(">BxL")
_COMMAND, _LAST = 1, 2


def parse(data: bytes) -> CommandSet:
    """Return the elements of a command set.

    Raises
    ------
    UnreadableError
        When it is not one.
    """
    elements = {}
    at = 0
    while at < len(data):
        if at + _ELEMENT.size > len(data):
            raise UnreadableError("the command set ends in the middle of an element")
        group, element, length = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(data):
            raise UnreadableError("the command set holds what is no command element")
        elements[element] = data[at : at + length]
        at += length
    return elements


def number(command: CommandSet, element: int) -> int:
    """Return an unsigned 16-bit value.

    Raises
    ------
    UnreadableError
        When it is missing or has another length.
    """
    value = command.get(element, b"")
    if len(value) != 2:
        raise UnreadableError(f"(0000,{element:04X}) of the command is no unsigned 16-bit value")
    return int.from_bytes(value, "little")


def text(command: CommandSet, element: int) -> str:
    """Return a text without its padding, "" when it is missing; it may be anything."""
    return command.get(element, b"").decode("latin-1").rstrip("\0 ")


def encode(values: Mapping[int, int | str]) -> bytes:
    """Return a command set of unsigned 16-bit numbers and texts, with its group length."""
    body = b"".join(_encoded(element, values[element]) for element in sorted(values))
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def pdus(command: bytes, *, context_id: int, longest: int) -> Iterator[bytes]:
    """Yield the P-DATA-TF PDUs of a command.

    Parameters
    ----------
    longest : int
        Maximum Length Received of the peer (PS3.8 D.1); 0 stands for no limit.
    """
    step = max(longest - _PDV.size, 1) if longest else len(command)
    for start in range(0, len(command), step):
        piece = command[start : start + step]
        control = _COMMAND | (_LAST if start + step >= len(command) else 0)
        pdv = _PDV.pack(len(piece) + 2, context_id, control) + piece
        yield _P_DATA_TF.pack(4, len(pdv)) + pdv


def _encoded(element: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return _ELEMENT.pack(0, element, 2) + value.to_bytes(2, "little")
    padding = b"\0" if element in (AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID) else b" "
    data = value.encode("ascii")
    data += padding * (len(data) % 2)
    return _ELEMENT.pack(0, element, len(data)) + data

"""A look at an A-ASSOCIATE-RQ (PS3.8 9.3.2) before a library makes objects of it."""

import struct
from collections.abc import Iterator
from typing import Final

from dicom_node.errors import PermanentError, UnreadableError

#: Presentation Context IDs are the odd numbers of a byte (PS3.8 9.3.2.2)
MOST_CONTEXTS: Final = 128
#: of all contexts together; more than any device proposes, and a second of work at most
MOST_TRANSFER_SYNTAXES: Final = 2048

#: protocol version, titles and what is reserved
_FIXED_BYTES: Final = 68
#: item type, reserved, length
_ITEM: Final = struct.Struct(">BxH")
_PRESENTATION_CONTEXT, _TRANSFER_SYNTAX = 0x20, 0x40
#: context id and what is reserved, before the sub-items
_CONTEXT_HEAD_BYTES: Final = 4


def check_request(value: memoryview) -> None:
    """Pass when a request proposes what a peer may propose.

    Parameters
    ----------
    value : memoryview
        Of the PDU, without its header.

    Raises
    ------
    UnreadableError
        When an item is longer than what it stands in.
    PermanentError
        When it proposes too much.
    """
    contexts = [
        item for kind, item in _items(value[_FIXED_BYTES:]) if kind == _PRESENTATION_CONTEXT
    ]
    if len(contexts) > MOST_CONTEXTS:
        raise PermanentError(f"{len(contexts)} presentation contexts, {MOST_CONTEXTS} are possible")
    syntaxes = sum(
        kind == _TRANSFER_SYNTAX
        for context in contexts
        for kind, _ in _items(context[_CONTEXT_HEAD_BYTES:])
    )
    if syntaxes > MOST_TRANSFER_SYNTAXES:
        raise PermanentError(
            f"{syntaxes} transfer syntaxes, {MOST_TRANSFER_SYNTAXES} are looked at"
        )


def _items(value: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(value):
        if at + _ITEM.size > len(value):
            raise UnreadableError("an item ends in its header")
        kind, length = _ITEM.unpack_from(value, at)
        at += _ITEM.size
        if at + length > len(value):
            raise UnreadableError("an item is longer than what it stands in")
        yield kind, value[at : at + length]
        at += length

"""The few attributes that the node reads of a message, out of bytes that may be anything.

A library makes an object of every element and item: 4 MiB of empty items become 560 MB and five
seconds. Here only what is asked for is kept, and what is nested too deep or too often is refused.
Little Endian, with explicit and with implicit VR (PS3.5 7.1, 7.5).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pydicom.datadict import tag_for_keyword

from dicom_node.errors import UnreadableError

#: Keyword of each wanted attribute: None for a value, another shape for a sequence.
Shape: TypeAlias = Mapping[str, "Shape | None"]
_Wanted: TypeAlias = dict[int, tuple[str, "_Wanted | None"]]

#: Items of all sequences together; a commitment of 20,000 instances stays below.
ITEM_LIMIT: Final = 25_000
DEPTH_LIMIT: Final = 8
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TAG_AND_LENGTH: Final = struct.Struct("<HHL")
_TAG_VR_AND_LENGTH: Final = struct.Struct("<HH2sH")
_LONG_LENGTH: Final = struct.Struct("<L")
#: Their length has 32 bits (PS3.5 Table 7.1-1).
_LONG: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


@dataclass(frozen=True)
class Attributes:
    """What was found in a data set or an item, by keyword."""

    #: as sent
    values: dict[str, bytes] = field(default_factory=dict)
    sequences: dict[str, list["Attributes"]] = field(default_factory=dict)

    def text(self, keyword: str) -> str:
        """Return a value without its padding, "" when absent."""
        return self.values.get(keyword, b"").decode("latin-1").strip(" \0")

    def number(self, keyword: str) -> int | None:
        """Return the value of an attribute of VR US, None when it is absent or no such value."""
        value = self.values.get(keyword, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else None

    def items(self, keyword: str) -> list["Attributes"]:
        """Return the items of a sequence, none when absent."""
        return self.sequences.get(keyword, [])


def parse(data: bytes, shape: Shape, *, is_implicit: bool) -> Attributes:
    """Read the attributes of a shape and pass over all others.

    Parameters
    ----------
    data : bytes
        A data set.
    shape : Shape
        What is wanted.
    is_implicit : bool
        Whether the transfer syntax is Implicit VR Little Endian.

    Raises
    ------
    UnreadableError
        When the bytes are no data set, or one nested beyond the limits.
    """
    try:
        return _Reader(data).item(0, len(data), _by_tag(shape), is_implicit)[0]
    except struct.error:
        raise UnreadableError("the data set ends in the middle of an element") from None


class _Reader:
    """Walks over a data set."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0
        self._depth = 0

    def item(self, at: int, end: int, wanted: _Wanted, is_implicit: bool) -> tuple[Attributes, int]:
        """Read elements up to `end` or an Item Delimitation; return them and where they end."""
        found = Attributes()
        while at < end:
            tag, vr, length, at = self._header(at, is_implicit)
            if tag == _ITEM_END:
                return found, at
            keyword, inner = wanted.get(tag, ("", None))
            if length == _UNDEFINED or (inner is not None and length):
                # an unknown VR of undefined length is a sequence in implicit VR (PS3.5 6.2.2)
                implied = is_implicit or vr == b"UN"
                stop = end if length == _UNDEFINED else self._end(at, length, end)
                items, at = self._sequence(at, stop, inner or {}, implied)
                if inner is not None:
                    found.sequences[keyword] = items
                continue
            value_end = self._end(at, length, end)
            if keyword and inner is None:
                found.values[keyword] = self._data[at:value_end]
            at = value_end
        return found, at

    def _sequence(
        self, at: int, end: int, wanted: _Wanted, is_implicit: bool
    ) -> tuple[list[Attributes], int]:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise UnreadableError("sequences are nested too deep")
        items = []
        while at < end:
            tag, length, at = self._tag_and_length(at)
            if tag == _SEQUENCE_END:
                break
            self._items += 1
            if tag != _ITEM or self._items > ITEM_LIMIT:
                raise UnreadableError("not an item, or more items than the node expects")
            stop = end if length == _UNDEFINED else self._end(at, length, end)
            item, at = self.item(at, stop, wanted, is_implicit)
            items.append(item)
        self._depth -= 1
        return items, at

    def _header(self, at: int, is_implicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR, length, and where the value begins."""
        tag, length, value_at = self._tag_and_length(at)
        if is_implicit or tag >> 16 == 0xFFFE:
            return tag, b"", length, value_at
        _, _, vr, length = _TAG_VR_AND_LENGTH.unpack_from(self._data, at)
        if not (vr.isalpha() and vr.isupper()):
            raise UnreadableError("an element has no VR")
        if vr in _LONG:
            return tag, vr, int(_LONG_LENGTH.unpack_from(self._data, at + 8)[0]), at + 12
        return tag, vr, length, value_at

    def _tag_and_length(self, at: int) -> tuple[int, int, int]:
        group, element, length = _TAG_AND_LENGTH.unpack_from(self._data, at)
        return group << 16 | element, length, at + 8

    def _end(self, at: int, length: int, end: int) -> int:
        if at + length > end:
            raise UnreadableError("an element is longer than what holds it")
        return at + length


def _by_tag(shape: Shape) -> _Wanted:
    wanted: _Wanted = {}
    for keyword, inner in shape.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise UnreadableError(f"{keyword} is no attribute")
        wanted[tag] = (keyword, None if inner is None else _by_tag(inner))
    return wanted

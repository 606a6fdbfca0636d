import struct

import pytest

from dicom_node.errors import PermanentError, UnreadableError
from dicom_node.receive.request import MOST_CONTEXTS, MOST_TRANSFER_SYNTAXES, check_request
from tests.support.receiving import EXPLICIT_LE, US_IMAGE, associate_rq


def request(contexts: int, syntaxes: int) -> memoryview:
    proposed = [(US_IMAGE, [EXPLICIT_LE] * syntaxes)] * min(contexts, 128)
    value = associate_rq(proposed)[6:]
    return memoryview(value + _context() * (contexts - 128))


def _context() -> bytes:
    sub_item = struct.pack(">BxH", 0x30, len(US_IMAGE)) + US_IMAGE.encode()
    return struct.pack(">BxH", 0x20, 4 + len(sub_item)) + b"\1\0\0\0" + sub_item


def test_all_that_a_byte_can_number_may_be_proposed() -> None:
    check_request(request(MOST_CONTEXTS, MOST_TRANSFER_SYNTAXES // MOST_CONTEXTS))


def test_more_contexts_than_can_be_numbered_are_refused() -> None:
    with pytest.raises(PermanentError, match="129 presentation contexts"):
        check_request(request(MOST_CONTEXTS + 1, 1))


def test_endless_transfer_syntaxes_are_refused() -> None:
    with pytest.raises(PermanentError, match="transfer syntaxes"):
        check_request(request(1, MOST_TRANSFER_SYNTAXES + 1))


@pytest.mark.parametrize("tail", [b"\x20\0", b"\x20\0\xff\xff\1", b"\x20\0\0\5\1\0\0\0\x40"])
def test_an_item_that_is_longer_than_its_place_is_unreadable(tail: bytes) -> None:
    with pytest.raises(UnreadableError, match="an item"):
        check_request(memoryview(bytes(request(1, 1)) + tail))

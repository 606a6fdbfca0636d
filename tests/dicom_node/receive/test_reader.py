import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dicom_node.receive.budget import FREE_BYTES, Budget, Share
from dicom_node.receive.reader import MAXIMUM_PDU_BYTES, PduReader


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.settimeout(0.3)
    with theirs, ours:
        yield theirs, ours


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, PduReader]]:
    with connected() as (theirs, ours):
        yield theirs, PduReader(ours, Share(Budget()))


def pdu(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(value)) + value


def test_pdus_that_come_together_are_read_one_by_one(
    line: tuple[socket.socket, PduReader],
) -> None:
    theirs, reader = line
    theirs.sendall(pdu(1, b"first") + pdu(4, b"") + pdu(5, b"third"))
    read = [(kind, bytes(value)) for kind, value in (reader.read() for _ in range(3))]
    assert read == [(1, b"first"), (4, b""), (5, b"third")]


def test_a_pdu_that_comes_byte_by_byte_is_one_pdu(line: tuple[socket.socket, PduReader]) -> None:
    theirs, reader = line
    sender = threading.Thread(
        target=lambda: [theirs.sendall(bytes([byte])) for byte in pdu(4, b"slowly")]
    )
    sender.start()
    assert bytes(reader.read()[1]) == b"slowly"
    sender.join()


def test_long_pdus_in_a_row_come_through_whole(line: tuple[socket.socket, PduReader]) -> None:
    theirs, reader = line
    reader.negotiated()
    values = [bytes([number]) * (MAXIMUM_PDU_BYTES - number) for number in range(20)]
    sender = threading.Thread(target=theirs.sendall, args=(b"".join(pdu(4, v) for v in values),))
    sender.start()
    assert [bytes(reader.read()[1]) for _ in values] == values
    sender.join()


def test_a_request_may_be_longer_than_the_data_that_follow_it(
    line: tuple[socket.socket, PduReader],
) -> None:
    theirs, reader = line
    request = b"x" * 200_000
    sender = threading.Thread(target=theirs.sendall, args=(pdu(1, request) + pdu(4, b"data"),))
    sender.start()
    assert bytes(reader.read()[1]) == request
    reader.negotiated()
    assert bytes(reader.read()[1]) == b"data"
    sender.join()


def test_a_request_that_the_budget_has_no_room_for_is_refused_on_its_header() -> None:
    budget = Budget(200_000 - FREE_BYTES)
    with connected() as first, connected() as second:
        readers = [PduReader(ours, Share(budget)) for _, ours in (first, second)]
        for theirs, _ in (first, second):
            theirs.sendall(struct.pack(">BxL", 1, 150_000))
        with pytest.raises(TimeoutError):  # it waits for the rest
            readers[0].read()
        with pytest.raises(OSError, match="no memory is left for a request of 150006 bytes"):
            readers[1].read()
        readers[0].close()
        with pytest.raises(TimeoutError):
            readers[1].read()


@pytest.mark.parametrize("length", [(1 << 18) + 1, 0xFFFFFFFF])
def test_before_negotiation_a_giant_is_refused_on_its_header(
    line: tuple[socket.socket, PduReader], length: int
) -> None:
    theirs, reader = line
    theirs.sendall(struct.pack(">BxL", 1, length))
    with pytest.raises(OSError, match=f"a PDU of {length} bytes where"):
        reader.read()


def test_after_negotiation_the_announced_length_holds(
    line: tuple[socket.socket, PduReader],
) -> None:
    theirs, reader = line
    reader.negotiated()
    theirs.sendall(struct.pack(">BxL", 4, MAXIMUM_PDU_BYTES + 4096))
    with pytest.raises(OSError, match="are allowed"):
        reader.read()


def test_silence_ends_in_a_time_out(line: tuple[socket.socket, PduReader]) -> None:
    with pytest.raises(TimeoutError):
        line[1].read()


def test_a_pdu_that_trickles_in_has_a_deadline_as_a_whole(
    line: tuple[socket.socket, PduReader],
) -> None:
    theirs, reader = line
    is_over = threading.Event()

    def trickle() -> None:
        theirs.sendall(struct.pack(">BxL", 4, 1000))
        while not is_over.wait(0.05):
            theirs.sendall(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(TimeoutError, match="took too long"):
            reader.read()
    finally:
        is_over.set()
        sender.join()


def test_a_closed_connection_is_no_pdu(line: tuple[socket.socket, PduReader]) -> None:
    theirs, reader = line
    theirs.sendall(b"\x04\x00\x00")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        reader.read()

"""PDUs off a connection (PS3.8 9.3.1): bounded in length, bounded in time, without polling."""

import math
import mmap
import socket
import struct
import time
from typing import Final

from dicom_node import log
from dicom_node.receive.budget import Share

#: Maximum Length Received (PS3.8 D.1) that the node announces.
MAXIMUM_PDU_BYTES: Final = 131072
#: Some peers count the PDV headers differently.
_SLACK_BYTES: Final = 1024
#: An A-ASSOCIATE-RQ with 128 contexts of every transfer syntax stays far below.
_ASSOCIATE_LIMIT_BYTES: Final = 1 << 18
#: PDU type, reserved, length
_HEADER: Final = struct.Struct(">BxL")
_FIRST_BYTES: Final = 4096
#: Linux; the system re-arms delayed acknowledgement by itself, so it is set after every read
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class PduReader:
    """Reads one PDU after the other into a buffer that it keeps.

    Parameters
    ----------
    connection : socket.socket
        Plain or TLS. Its time-out bounds the silence between two PDUs, and the whole of each PDU.
    share : Share
        Holds what comes before the negotiation, from whomever.
    """

    def __init__(self, connection: socket.socket, share: Share) -> None:
        self._connection, self._share = connection, share
        self._timeout_s = connection.gettimeout() or math.inf
        self._limit_bytes = _ASSOCIATE_LIMIT_BYTES
        self._buffer: bytearray | mmap.mmap = bytearray(_FIRST_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        #: of the PDU that is being read
        self._deadline: float | None = None

    def negotiated(self) -> None:
        """Hold the peer to the length that was announced to it."""
        self._limit_bytes = MAXIMUM_PDU_BYTES + _SLACK_BYTES
        self._share.hold(0)

    def close(self) -> None:
        """Let go of the buffer; its owner may wait long for the garbage collector."""
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._share.hold(0)

    def read(self) -> tuple[int, memoryview]:
        """Wait for a PDU; return its type and its value, which is good until the next call.

        Raises
        ------
        TimeoutError
            When nothing came for the whole time, or the PDU took longer than that.
        OSError
            When the connection was closed or broke, or the PDU is longer than it may be or than
            the memory that is left.
        """
        if self._end - self._start < _HEADER.size:
            self._wait_for_header()
        kind, length = _HEADER.unpack_from(self._buffer, self._start)
        if length > self._limit_bytes:
            log.get("receive").warning("pdu_too_long", bytes=length)
            raise OSError(f"a PDU of {length} bytes where {self._limit_bytes} are allowed")
        if self._end - self._start < _HEADER.size + length:
            self._fill(_HEADER.size + length)
        value = self._start + _HEADER.size
        self._start = value + length
        self._deadline = None
        return kind, self._view[value : self._start]

    def _wait_for_header(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
            self._receive()  # here a peer may be silent; from the first byte on it may not
        self._fill(_HEADER.size)

    def _fill(self, count: int) -> None:
        """Have `count` bytes from the start of the PDU on."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timeout_s
        if self._start + count > len(self._buffer):
            self._make_room(count)
        while self._end - self._start < count:
            if time.monotonic() > self._deadline:
                raise TimeoutError("a PDU took too long")
            self._receive()

    def _receive(self) -> None:
        count = self._connection.recv_into(self._view[self._end :])
        if not count:
            raise ConnectionResetError("the peer closed the connection")
        self._end += count
        if _QUICKACK is not None:
            self._connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _make_room(self, count: int) -> None:
        """Move what is left to the front, of a larger buffer where a PDU needs one."""
        rest = bytes(self._view[self._start : self._end])
        if count > len(self._buffer):
            if self._limit_bytes == _ASSOCIATE_LIMIT_BYTES and not self._share.hold(count):
                raise OSError(f"no memory is left for a request of {count} bytes")
            # Two long PDUs fit: most are read in one piece; a silent peer never gets here. Mapped:
            # it takes the memory that a peer's PDUs fill and no more, and gives it back at once.
            self._buffer = mmap.mmap(-1, max(count, 2 * (MAXIMUM_PDU_BYTES + _SLACK_BYTES)))
            self._view = memoryview(self._buffer)
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

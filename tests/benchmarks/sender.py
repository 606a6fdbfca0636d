"""One sender for all receivers: it encodes nothing while it sends.

An association is a process of its own. The PDUs of a data set are cut once, to the length that
the receiver takes; for each object only its SOP Instance UID and eight of its pixels are written
over. So every receiver gets new objects, none sees a duplicate, and the sender costs little more
than the copy into the socket.
"""

import multiprocessing
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from tests.benchmarks.loads import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Load,
)
from tests.support.receiving import EXPLICIT_LE, associate_rq, p_data, pdu, store_command

#: Sent before the clock starts: what a receiver does only once is not measured.
WARM_UP_OBJECTS = 3
TIMEOUT_S = 60.0
_PIECES = 1024  # of one sendmsg: IOV_MAX of Linux and macOS
_DEFAULT_PDU_BYTES = 16384


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one association sends."""

    port: int
    called_ae_title: str
    load: Load
    #: at most, the warm-up not counted
    objects: int
    seconds: float
    #: up to 12 digits, the same for all associations of a measurement
    tag: int
    association: int

    def sop_instance_uid(self, number: int) -> bytes:
        return f"{uid_stem(self.tag)}{self.association:04d}{number:016d}".encode()


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of an order."""

    #: SOP Instance UIDs that were answered with Success
    acknowledged: frozenset[bytes]
    #: of them, sent while the clock ran
    objects: int
    #: monotonic seconds, the same clock in all processes
    started: float
    ended: float
    cpu_s: float
    fault: str | None = None


def uid_stem(tag: int) -> str:
    """Return what all SOP Instance UIDs of a measurement begin with."""
    return f"{SOP_INSTANCE_UID[:6]}{tag:012d}"


class Senders:
    """Processes that send when told."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._lines: list[Connection[Any, Any]] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._lines.append(ours)
            self._processes.append(process)

    def __enter__(self) -> "Senders":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join(TIMEOUT_S)

    def prepare(self, load: Load) -> None:
        """Let the processes hold the load's data set before anything is timed."""
        for line in self._lines[: load.associations]:
            line.send(load)
        for line in self._lines[: load.associations]:
            line.recv()

    def send(self, orders: Sequence[Order]) -> list[Sent]:
        """Associate for every order, then send at the same time."""
        lines = self._lines[: len(orders)]
        for line, order in zip(lines, orders, strict=True):
            line.send(order)
        for line in lines:
            line.recv()
        for line in lines:
            line.send(None)
        return [line.recv() for line in lines]


def _serve(line: "Connection[Any, Any]") -> None:
    data_set, load = bytearray(), None
    while True:
        try:
            wanted = line.recv()
        except EOFError:
            return
        if isinstance(wanted, Load):
            if wanted != load:
                load, data_set = wanted, wanted.data_set()
            line.send(None)
        else:
            line.send(_obey(wanted, bytearray(data_set), line))


def _obey(order: Order, data_set: bytearray, line: "Connection[Any, Any]") -> Sent:
    acknowledged: set[bytes] = set()
    is_started = False
    started, cpu_s = time.monotonic(), 0.0
    warm, fault = 0, None
    try:
        with Association(order, data_set) as association:
            if order.load.size_bytes < 1_000_000:
                warm = association.store(range(WARM_UP_OBJECTS), acknowledged)
            line.send(None)
            line.recv()
            is_started = True
            started, cpu_s = time.monotonic(), time.process_time()
            numbers = range(warm, warm + order.objects)
            association.store(numbers, acknowledged, until=started + order.seconds)
            ended = time.monotonic()
    except (OSError, ValueError, struct.error) as exc:
        fault, ended = f"{type(exc).__name__}: {exc}", time.monotonic()
    if not is_started:
        line.send(None)
        line.recv()
    return Sent(
        acknowledged=frozenset(acknowledged),
        objects=max(0, len(acknowledged) - warm),
        started=started,
        ended=ended,
        cpu_s=time.process_time() - cpu_s,
        fault=fault,
    )


class Association:
    """One association that sends copies of one data set."""

    def __init__(self, order: Order, data_set: bytearray) -> None:
        self._order = order
        self._data_set = data_set
        self._socket = socket.create_connection(("127.0.0.1", order.port), timeout=TIMEOUT_S)
        if not order.load.is_naive:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        contexts = [(order.load.sop_class_uid, [EXPLICIT_LE])]
        self._socket.sendall(associate_rq(contexts, called=order.called_ae_title))
        kind, accepted = self._read()
        if kind != 2:
            raise ValueError(f"the association was not accepted: PDU type {kind}")
        self._cut(_maximum_pdu_bytes(accepted))
        self._uid_at = data_set.index(SOP_INSTANCE_UID.encode())
        self._command = bytearray(
            p_data(
                3,
                store_command(SOP_INSTANCE_UID.encode(), sop_class_uid=order.load.sop_class_uid),
            )
        )
        self._command_uid_at = self._command.index(SOP_INSTANCE_UID.encode())
        study = f"{order.tag:012d}{order.association:020d}".encode()
        for template in (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID):
            at = data_set.index(template.encode())
            data_set[at + 6 : at + 38] = study

    def __enter__(self) -> "Association":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._socket:
            if kind is None:
                self._socket.sendall(pdu(5, bytes(4)))
                self._read()

    def store(self, numbers: range, acknowledged: set[bytes], until: float = float("inf")) -> int:
        """Send objects one after another; return how many were answered with Success."""
        before = len(acknowledged)
        for number in numbers:
            if time.monotonic() >= until:
                break
            uid = self._order.sop_instance_uid(number)
            self._stamp(uid, number)
            self._send()
            if self._status() == 0:
                acknowledged.add(uid)
        return len(acknowledged) - before

    def _cut(self, maximum_pdu_bytes: int) -> None:
        view, piece_bytes = memoryview(self._data_set), maximum_pdu_bytes - 6
        self._pieces: list[bytes | memoryview] = []
        for start in range(0, len(view), piece_bytes):
            piece = view[start : start + piece_bytes]
            is_last = start + piece_bytes >= len(view)
            head = struct.pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, 1, 2 * is_last)
            self._pieces += [head, piece]

    def _stamp(self, uid: bytes, number: int) -> None:
        """Make the object another one, pixels included: the store drops equal pictures."""
        self._command[self._command_uid_at : self._command_uid_at + len(uid)] = uid
        self._data_set[self._uid_at : self._uid_at + len(uid)] = uid
        middle = len(self._data_set) // 2
        if self._order.load.size_bytes > 100_000:
            struct.pack_into("<QQ", self._data_set, middle, number, self._order.tag)

    def _send(self) -> None:
        if self._order.load.is_naive:
            for piece in (self._command, *self._pieces):
                self._socket.sendall(piece)
            return
        pieces = [memoryview(self._command), *map(memoryview, self._pieces)]
        while pieces:
            sent = self._socket.sendmsg(pieces[:_PIECES])
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = pieces[0][sent:]

    def _status(self) -> int:
        kind, payload = self._read()
        if kind != 4:
            raise ValueError(f"PDU type {kind} where a response was expected")
        at = payload.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int(struct.unpack_from("<H", payload, at + 8)[0])

    def _read(self) -> tuple[int, bytes]:
        data = b""
        wanted = 6
        while len(data) < wanted:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError("the receiver closed the connection")
            data += piece
            if wanted == 6 and len(data) >= 6:
                wanted = 6 + struct.unpack_from(">L", data, 2)[0]
        return data[0], data[6:]


def _maximum_pdu_bytes(accepted: bytes) -> int:
    """Return the receiver's Maximum Length Received (PS3.8 D.1) out of an A-ASSOCIATE-AC."""
    at = 68
    while at + 4 <= len(accepted):
        kind, length = struct.unpack_from(">BxH", accepted, at)
        if kind == 0x21 and accepted[at + 6] != 0:
            raise ValueError(f"the presentation context was refused: reason {accepted[at + 6]}")
        if kind == 0x51:
            return struct.unpack_from(">L", accepted, at + 4)[0] or _DEFAULT_PDU_BYTES
        # the User Information (0x50) holds further items, of the same form
        at += 4 if kind == 0x50 else 4 + length
    return _DEFAULT_PDU_BYTES

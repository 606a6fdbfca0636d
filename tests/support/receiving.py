"""A receiver to send to, and a peer that speaks raw bytes: it can say what no library would."""

import multiprocessing
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from dicom_node.config import Caller, NodeSettings
from dicom_node.inbox import Inbox
from dicom_node.listeners import Listener, listen
from dicom_node.receive import command_set, run_receiver
from dicom_node.receive.contexts import COMMITMENT
from dicom_node.receive.notices import COMMITMENT_INSTANCE
from dicom_node.receive.scp import Flag

US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
#: of a data set in one PDU; the receiver takes 128 KiB
PIECE_BYTES = 65536
#: however others behave
SERVED_WITHIN_S = 2.0
#: answers of the upper layer (PS3.8 9.3)
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7


@dataclass
class Receiver:
    """A running receiver."""

    port: int
    inbox: Inbox
    stop: threading.Event = field(default_factory=threading.Event)
    is_running: Callable[[], bool] = lambda: True

    def received(self) -> list[Path]:
        return [self.inbox.path(file_id) for file_id in self.inbox.waiting()]

    def unfinished(self) -> list[Path]:
        return list((self.inbox.folder / "tmp").iterdir())


def settings_for(port: int, **changes: object) -> NodeSettings:
    values: dict[str, object] = {
        "port": port,
        "processes": 1,
        "callers": (Caller(ae_title="PEER", host="127.0.0.1"),),
        "network_timeout_s": 5.0,
        "drain_s": 1.0,
    }
    return NodeSettings.model_validate(values | changes)


@contextmanager
def receiver(settings: NodeSettings, inbox: Inbox) -> Iterator[Receiver]:
    """Run a receiver in threads of this process and drain it at the end."""
    running = Receiver(settings.port, inbox)
    ready = threading.Event()
    thread = threading.Thread(
        target=run_receiver,
        args=(settings, inbox, listen(settings)),
        kwargs={"ready": ready, "stop": running.stop},
    )
    thread.start()
    running.is_running = thread.is_alive
    try:
        assert ready.wait(10)
        yield running
    finally:
        running.stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def receiver_process(
    settings: NodeSettings, inbox: Inbox, listeners: Sequence[Listener] = ()
) -> Iterator[multiprocessing.Process]:
    """Run a receiver in a process of its own, on given sockets or on sockets of its own."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(
        target=_receive, args=(settings, inbox.folder, ready, stop, *listeners)
    )
    process.start()
    try:
        assert ready.wait(30)
        yield process  # type: ignore[misc]
    finally:
        stop.set()
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join(10)


def _receive(
    settings: NodeSettings, folder: Path, ready: Flag, stop: Flag, *listeners: Listener
) -> None:
    inbox = Inbox(folder, min_free_bytes=0)
    run_receiver(settings, inbox, listeners or listen(settings), ready=ready, stop=stop)


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
    """Wait until `condition` holds; False when it never does."""
    never = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return True
        never.wait(0.02)
    return bool(condition())


def data_set(path: Path) -> bytes:
    """Return a file's bytes behind its File Meta Information, as a reader of PS3.10 finds them."""
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return content[144 + struct.unpack("<L", content[140:144])[0] :]


def pdu(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(payload)) + payload


def associate_rq(
    contexts: Sequence[tuple[str, Sequence[str]]], calling: str = "PEER", called: str = "DICOM_NODE"
) -> bytes:
    """Return an A-ASSOCIATE-RQ (PS3.8 9.3.2); context ids are 1, 3, 5, ..."""
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfers) in enumerate(contexts):
        syntaxes = _item(0x30, abstract.encode())
        syntaxes += b"".join(_item(0x40, uid.encode()) for uid in transfers)
        items += _item(0x20, struct.pack(">Bxxx", 2 * number + 1) + syntaxes)
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3.4.5")
    head = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    return pdu(1, head + items + _item(0x50, user))


def p_data(header: int, value: bytes, context_id: int = 1) -> bytes:
    """Return a P-DATA-TF with one PDV (PS3.8 9.3.5); header: 1 command, 2 last."""
    return pdu(4, struct.pack(">LBB", len(value) + 2, context_id, header) + value)


def store_command(
    sop_instance_uid: bytes | None, *, sop_class_uid: str = US_IMAGE, has_data_set: bool = True
) -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    elements = [
        (0x0002, _even(sop_class_uid.encode())),
        (0x0100, struct.pack("<H", 0x0001)),
        (0x0110, struct.pack("<H", 7)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0x0000 if has_data_set else 0x0101)),
    ]
    if sop_instance_uid is not None:
        elements.append((0x1000, _even(sop_instance_uid)))
    body = b"".join(struct.pack("<HHL", 0, tag, len(v)) + v for tag, v in elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def commit_command() -> bytes:
    """Return the command set of an N-ACTION-RQ for storage commitment (PS3.7 10.3.5.1)."""
    return command_set.encode(
        {
            0x0003: COMMITMENT,
            command_set.COMMAND_FIELD: 0x0130,
            command_set.MESSAGE_ID: 1,
            command_set.COMMAND_DATA_SET_TYPE: 0,
            0x1001: COMMITMENT_INSTANCE,
            0x1008: 1,
        }
    )


class RawPeer:
    """A TCP peer that sends what it is told."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        """Connect from `host`, any address of the loopback network."""
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=20, source_address=(host, 0)
        )

    def __enter__(self) -> "RawPeer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def associate(self, abstract: str = US_IMAGE, transfer: str = EXPLICIT_LE) -> None:
        self.send(associate_rq([(abstract, [transfer])]))
        kind, _ = self.read()
        assert kind == ASSOCIATE_AC

    def store(self, sop_instance_uid: bytes | None, data: bytes, **command: str) -> int:
        """Send an instance, its data set in pieces; return the status."""
        self.send(p_data(3, store_command(sop_instance_uid, **command)))
        for start in range(0, len(data) - PIECE_BYTES, PIECE_BYTES):
            self.send(p_data(0, data[start : start + PIECE_BYTES]))
        self.send(p_data(2, data[-(len(data) % PIECE_BYTES or PIECE_BYTES) :]))
        return self.status()

    def status(self) -> int:
        kind, payload = self.read()
        assert kind == P_DATA, f"PDU type {kind} where a response was expected"
        at = payload.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return int(struct.unpack("<H", payload[at + 8 : at + 10])[0])

    def read(self) -> tuple[int, bytes]:
        """Read one PDU; (0, b"") when the connection was closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def is_closed(self) -> bool:
        """Wait for the end of the connection; True when it came within the time-out."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def is_open(self) -> bool:
        """Tell whether the connection stands and nothing came."""
        self.socket.settimeout(0.05)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        return False

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data


def _item(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(payload)) + payload


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)

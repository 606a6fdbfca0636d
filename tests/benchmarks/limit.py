"""The physical limit where there is no C compiler: `limit.c` in Python, and slower than it."""

import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

from tests.support.receiving import p_data, pdu

_MAXIMUM_PDU_BYTES = 131072


def main() -> None:
    """Serve ``PORT FOLDER``; the folder ``-`` keeps nothing."""
    port, folder = int(sys.argv[1]), None if sys.argv[2] == "-" else Path(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    listener = socket.create_server(("127.0.0.1", port), backlog=16)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=_serve, args=(peer, folder), daemon=True).start()


def _serve(peer: socket.socket, folder: Path | None) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head, body = memoryview(bytearray(6)), memoryview(bytearray(_MAXIMUM_PDU_BYTES))
    file, number = -1, 0
    while _fill(peer, head):
        kind, length = struct.unpack(">BxL", head)
        piece = body[:length]
        _fill(peer, piece)
        if kind in _ANSWERS:
            peer.sendall(_ANSWERS[kind](bytes(piece)))
        elif piece[5] & 1:
            number += 1
            file = _create(folder, f"{threading.get_ident()}-{number}")
        else:
            _write(file, piece[6:])
            if piece[5] & 2:
                _keep(file, folder, f"{threading.get_ident()}-{number}")
                peer.sendall(_SUCCESS)
    peer.close()


def _fill(peer: socket.socket, view: memoryview) -> bool:
    while view:
        count = peer.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def _create(folder: Path | None, name: str) -> int:
    if folder is None:
        return -1
    return os.open(folder / "tmp" / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _write(file: int, data: memoryview) -> None:
    if file >= 0:
        os.write(file, data)


def _keep(file: int, folder: Path | None, name: str) -> None:
    if folder is None:
        return
    os.fsync(file)
    os.close(file)
    (folder / "tmp" / name).rename(folder / "new" / name)
    new = os.open(folder / "new", os.O_RDONLY)
    os.fsync(new)
    os.close(new)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _accept(request: bytes) -> bytes:
    """Return an A-ASSOCIATE-AC (PS3.8 9.3.3): context 1 in Explicit VR Little Endian."""
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    items += _item(0x21, b"\1\0\0\0" + _item(0x40, b"1.2.840.10008.1.2.1"))
    items += _item(0x50, _item(0x51, struct.pack(">L", _MAXIMUM_PDU_BYTES)))
    return pdu(2, request[:68] + items)


def _response() -> bytes:
    elements = ((0x0100, 0x8001), (0x0120, 7), (0x0800, 0x0101), (0x0900, 0))
    body = b"".join(struct.pack("<HHLH", 0, tag, 2, value) for tag, value in elements)
    return p_data(3, struct.pack("<HHLL", 0, 0, 4, len(body)) + body)


_ANSWERS = {1: _accept, 5: lambda _: pdu(6, bytes(4))}
_SUCCESS = _response()

if __name__ == "__main__":
    main()

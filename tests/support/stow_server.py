"""A STOW-RS server on loopback that answers as it is told."""

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO

from dicom_node.config import DicomwebDestination


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; without a status the connection is dropped instead."""

    status: int | None = 200
    model: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class StowServer:
    """What the server got, and how it answers."""

    destination: DicomwebDestination
    #: the SOP Instance UIDs of a request -> the reply
    answer: Callable[[list[str]], Reply] = lambda _: Reply()
    #: the SOP Instance UIDs of each request
    requests: list[list[str]] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    #: how far its clock is ahead of this machine's
    ahead_s: float = 0.0


@contextmanager
def stow_server(
    port: int, *, ssl_context: ssl.SSLContext | None = None, **settings: Any
) -> Iterator[StowServer]:
    """Run the server; `settings` are those of its destination."""
    scheme = "http" if ssl_context is None else "https"
    values = {"name": "web", "kind": "dicomweb", "url": f"{scheme}://127.0.0.1:{port}/dicom-web"}
    state = StowServer(
        destination=DicomwebDestination.model_validate(values | {"timeout_s": 5.0} | settings)
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply([str(ds.SOPInstanceUID) for ds in parts(self.headers, body)])

        def do_GET(self) -> None:
            self.reply([])

        def reply(self, uids: list[str]) -> None:
            state.requests.append(uids)
            state.headers.append(self.headers)
            reply = state.answer(uids)
            if reply.status is None:
                self.close_connection = True
                return
            body = b"" if reply.model is None else json.dumps(reply.model).encode()
            self.send_response_only(reply.status)
            now = self.date_time_string(int(time.time() + state.ahead_s))
            kind = {"Content-Type": "application/dicom+json; charset=utf-8"} if body else {}
            for name, value in ({"Date": now} | kind | reply.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if ssl_context is not None:
        server.socket = ssl_context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parts(headers: Message, body: bytes) -> list[Dataset]:
    """Return the data sets of a multipart request."""
    boundary = headers.get_param("boundary")
    assert isinstance(boundary, str)
    pieces = body.split(b"--" + boundary.encode())[1:-1]
    files = [piece.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for piece in pieces]
    return [dcmread(DicomBytesIO(file)) for file in files]


def stored(*uids: str, failed: dict[str, int] | None = None) -> dict[str, Any]:
    """Return a Store Instances Response Module (PS3.18 Annex I)."""
    model: dict[str, Any] = {}
    if uids:
        model["00081199"] = {"vr": "SQ", "Value": [_item(uid) for uid in uids]}
    if failed:
        items = [
            _item(uid) | {"00081197": {"vr": "US", "Value": [reason]}}
            for uid, reason in failed.items()
        ]
        model["00081198"] = {"vr": "SQ", "Value": items}
    return model


def _item(uid: str) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.66.4"]},
        "00081155": {"vr": "UI", "Value": [uid]},
    }

"""pynetdicom's server, made to stand on a hospital network.

What it adds to the stock server: a peer that is silent, that stops in the middle of a PDU or that
announces a giant one costs one connection for a limited time and nothing else; several processes
may share the port; small objects do not wait for delayed acknowledgements.
"""

import socket
import socketserver
import time
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node import log
from dicom_node.inbox import Inbox
from dicom_node.receive.dimse import StreamingDimse

#: Maximum Length Received (PS3.8 D.1) that the node announces.
MAXIMUM_PDU_BYTES = 131072
#: Some peers count the PDV headers differently.
_PDU_SLACK_BYTES = 1024
#: An A-ASSOCIATE-RQ with 128 contexts of every transfer syntax stays far below.
_ASSOCIATE_LIMIT_BYTES = 1 << 20
#: Linux; the system re-arms delayed acknowledgement by itself, so it is set after every read
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class BoundedSocket(AssociationSocket):
    """Reads a PDU in large pieces, of bounded length, within a bounded time."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`, fewer when the peer closes.

        Raises
        ------
        OSError
            When so many are not allowed here, or the peer takes too long: pynetdicom ends the
            connection.
        """
        connection, limit_bytes = self.socket, self._limit_bytes()
        if connection is None:
            raise OSError("the connection is closed")
        if nr_bytes > limit_bytes:
            log.get("receive").warning("pdu_too_long", bytes=nr_bytes)
            raise OSError(f"a PDU of {nr_bytes} bytes where {limit_bytes} are allowed")
        data = bytearray(nr_bytes)
        with memoryview(data) as view:
            received = self._fill(connection, view)
        del data[received:]
        return data

    def _fill(self, connection: socket.socket, view: memoryview) -> int:
        timeout_s = connection.gettimeout()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        received = 0
        while received < len(view):
            count = connection.recv_into(view[received:])
            if not count:
                break
            received += count
            if deadline is not None and received < len(view) and time.monotonic() > deadline:
                raise TimeoutError("a PDU took too long")
        if _QUICKACK is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return received

    def _limit_bytes(self) -> int:
        if self.assoc.is_established:
            return MAXIMUM_PDU_BYTES + _PDU_SLACK_BYTES
        return _ASSOCIATE_LIMIT_BYTES


class NodeRequestHandler(RequestHandler):
    """Gives every association its bounded socket and its way into the inbox."""

    server: "NodeServer"

    def _create_association(self) -> Association:
        connection = self.request
        connection.settimeout(self.server.ae.network_timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assoc = super()._create_association()
        # our socket replaces the stock one, so it alone reports the connection (PS3.8 9.2.2, Evt5)
        assoc.dul.event_queue.get_nowait()
        assoc.dul.socket = BoundedSocket(assoc, client_socket=connection)
        assoc.dimse = StreamingDimse(assoc, self.server.inbox)
        return assoc


class NodeServer(ThreadedAssociationServer):
    """The listening side of one receiver process.

    Parameters
    ----------
    inbox : Inbox
        Where instances go.
    is_shared : bool
        Whether other processes of the node listen on the same port (SO_REUSEPORT).
    max_connections : int
        Further connections are closed at once.
    """

    request_queue_size = 128

    def __init__(
        self, *args: Any, inbox: Inbox, is_shared: bool, max_connections: int, **kwargs: Any
    ) -> None:
        self.inbox = inbox
        self._is_shared = is_shared
        self._max_connections = max_connections
        super().__init__(*args, **kwargs)
        self.RequestHandlerClass = NodeRequestHandler

    def server_bind(self) -> None:
        """Bind, so that the node's other receivers may bind too."""
        if self._is_shared and self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections beyond the limit, associated or silent."""
        return len(self.active_associations) < self._max_connections

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that failed before its association began."""
        log.get("receive").warning("connection_failed", host=str(client_address[0]))

    def stop_accepting(self) -> None:
        """Close the listening socket and leave the associations alone."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

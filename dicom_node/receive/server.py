"""The listening side: pynetdicom's server, made to stand on a hospital network.

What it adds to the stock server: a peer that is silent, that stops in the middle of a PDU or of a
TLS handshake, or that announces a giant PDU costs one connection for a limited time and nothing
else; one host cannot take all connections; several processes accept from one socket.
"""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from pynetdicom.transport import AddressInformation, AssociationServer

from dicom_node import log, metrics
from dicom_node.certificates import ServerContext
from dicom_node.inbox import Inbox
from dicom_node.receive.association import NodeAssociation
from dicom_node.receive.budget import Budget


class Connections:
    """The open connections of a receiver process, bounded as a whole and for each host.

    Parameters
    ----------
    limit : int
        So many may be open, associated or silent.
    limit_per_host : int
        So many from one address.

    Attributes
    ----------
    budget : Budget
        What their messages may take of the memory.
    """

    def __init__(self, *, limit: int, limit_per_host: int) -> None:
        self._limit, self._limit_per_host = limit, limit_per_host
        self.budget = Budget()
        self._open: set[NodeAssociation] = set()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[NodeAssociation]:
        with self._lock:
            return iter(list(self._open))

    @property
    def established(self) -> int:
        """How many are associations."""
        return sum(assoc.is_established for assoc in self)

    def has_room_for(self, host: str) -> bool:
        """Tell whether a connection from `host` may be opened."""
        found = list(self)
        of_host = sum(assoc.host == host for assoc in found)
        return len(found) < self._limit and of_host < self._limit_per_host

    def add(self, assoc: NodeAssociation) -> None:
        """Count a connection in."""
        with self._lock:
            self._open.add(assoc)
            metrics.page().set(metrics.OPEN, len(self._open))

    def remove(self, assoc: NodeAssociation) -> None:
        """Count a connection out."""
        with self._lock:
            self._open.discard(assoc)
            metrics.page().set(metrics.OPEN, len(self._open))


class NodeServer(AssociationServer):
    """Accepts the connections of one listening socket.

    Parameters
    ----------
    listener : socket.socket
        Shared with the other receiver processes.
    inbox : Inbox
        Where instances go.
    connections : Connections
        Shared by the listeners of this process.
    tls : ServerContext or None
        With one it speaks TLS.
    """

    def __init__(
        self,
        *args: Any,
        listener: socket.socket,
        inbox: Inbox,
        connections: Connections,
        tls: ServerContext | None,
        **kwargs: Any,
    ) -> None:
        self._listener = listener
        self.inbox = inbox
        self.connections = connections
        self._tls = tls
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        """Take the socket that is open already."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listener
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Nothing is left to do: the socket listens."""

    def server_close(self) -> None:
        """Let go of the socket; shutting it down, as pynetdicom does, would close it for all."""
        self._listener.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake comes later, in its own thread."""
        return self._listener.accept()

    def service_actions(self) -> None:
        """Show that connections are accepted."""
        metrics.page().set(metrics.ALIVE_AT, time.time())

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse connections beyond the limits, associated or silent."""
        host = str(client_address[0])
        if self.connections.has_room_for(host):
            return True
        metrics.count(metrics.REJECTED, "limit")
        log.get("receive").warning(
            "connection_refused", host=host, reason="too many connections are open"
        )
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make an association of a connection and give it its thread."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request.settimeout(self.ae.network_timeout)
        if self._tls is not None:
            request = self._tls.current().wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        assoc = NodeAssociation(
            self.ae,
            request,
            self.inbox,
            budget=self.connections.budget,
            on_end=self.connections.remove,
        )
        assoc.acceptor.maximum_length = self.ae.maximum_pdu_size
        assoc.acceptor.ae_title = self.ae_title
        assoc.acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        assoc.acceptor.implementation_class_uid = self.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = self.ae.implementation_version_name
        assoc.acceptor.supported_contexts = self.contexts
        assoc.requestor.address_info = AddressInformation.from_tuple(client_address)
        for event, handler in self._handlers.items():
            bound = [handler] if event.is_intervention else handler
            for one in cast(list[tuple[Callable[..., Any], list[Any] | None]], bound):
                assoc.bind(event, *one)
        self.connections.add(assoc)
        try:
            assoc.start()
        except RuntimeError:  # the system gives no thread: nobody else would count it out
            self.connections.remove(assoc)
            request.close()
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that failed before its association began."""
        log.get("receive").warning("connection_failed", host=str(client_address[0]))

    def stop_accepting(self) -> None:
        """Close the listening socket and leave the associations alone."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

"""The listening sockets: opened once, shared by every receiver process.

They belong to the supervisor. When a receiver dies, the connections that wait to be accepted do not
die with it: another receiver takes them.
"""

import socket
from dataclasses import dataclass
from typing import Final

from dicom_node.config import NodeSettings

#: Connections that the system holds until a receiver accepts them.
_BACKLOG: Final = 128


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A listening socket; it travels to a child process."""

    socket: socket.socket
    port: int
    is_tls: bool


def listen(settings: NodeSettings) -> list[Listener]:
    """Open the ports of a configuration.

    Raises
    ------
    OSError
        When a port cannot be had; none is open then. Its ``filename`` is the address.
    """
    opened: list[Listener] = []
    for port, is_tls in settings.ports:
        try:
            opened.append(Listener(socket=open_port(settings.bind, port), port=port, is_tls=is_tls))
        except OSError as exc:
            close(opened)
            raise OSError(exc.errno, exc.strerror, f"{settings.bind}:{port}") from None
    return opened


def close(listeners: list[Listener]) -> None:
    """Close this process's hold on the sockets."""
    for listener in listeners:
        listener.socket.close()


def open_port(host: str, port: int) -> socket.socket:
    """Open one port, for processes that share it; raises OSError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.create_server(
        (host, port),
        family=family,
        backlog=_BACKLOG,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )
    opened.setblocking(False)  # another receiver may be faster to accept
    return opened

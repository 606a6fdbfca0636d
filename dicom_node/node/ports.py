"""The node's ports, for as long as it runs."""

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dicom_node import log
from dicom_node.certificates import server_context
from dicom_node.config import NodeSettings
from dicom_node.errors import ConfigError
from dicom_node.listeners import Listener, close, listen

#: The receivers of a killed supervisor hold its ports until they have drained; so much longer.
_WAIT_S: Final = 5.0
_POLL_S: Final = 0.2
#: errno: the key at fault, and what to do
_CURES: Final = {
    errno.EADDRINUSE: ("port", "choose a free port, or end what listens there"),
    errno.EACCES: ("port", "choose a port above 1023, or give the node the right to lower ones"),
}


@contextmanager
def opened(node: NodeSettings, stop: threading.Event) -> Iterator[list[Listener]]:
    """Open the ports and close them at the end; yields none when `stop` is set meanwhile.

    Raises
    ------
    ConfigError
        When a port cannot be had, or the TLS files cannot be used.
    """
    if node.tls is not None:
        server_context(node.tls)  # said here, where somebody reads it, and not by each receiver
    listeners = _listen(node, time.monotonic() + node.drain_s + _WAIT_S, stop)
    try:
        yield listeners
    finally:
        close(listeners)


def _listen(node: NodeSettings, deadline: float, stop: threading.Event) -> list[Listener]:
    told = False
    while not stop.is_set():
        try:
            return listen(node)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise ConfigError(_fault(exc)) from None
            if not told:
                log.get("node").warning("waiting for the port", where=exc.filename)
                told = True
            stop.wait(_POLL_S)
    return []


def _fault(exc: OSError) -> str:
    key, cure = _CURES.get(exc.errno or 0, ("bind", "name an address of this machine, or 0.0.0.0"))
    return f"node.{key}: {exc.filename} cannot be used ({exc.strerror}); {cure}"

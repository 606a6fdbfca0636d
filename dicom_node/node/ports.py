"""The node's ports, for as long as it runs."""

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


@contextmanager
def opened(node: NodeSettings) -> Iterator[list[Listener]]:
    """Open the ports and close them at the end.

    Raises
    ------
    ConfigError
        When somebody else has a port, or the TLS files cannot be used.
    """
    if node.tls is not None:
        server_context(node.tls)  # said here, where somebody reads it, and not by each receiver
    listeners = _listen(node, time.monotonic() + node.drain_s + _WAIT_S)
    try:
        yield listeners
    finally:
        close(listeners)


def _listen(node: NodeSettings, deadline: float) -> list[Listener]:
    told = False
    while True:
        try:
            return listen(node)
        except OSError as exc:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"node.port: {exc.filename} cannot be used ({exc.strerror}); "
                    "choose a free port, or end what listens there"
                ) from None
            if not told:
                log.get("node").warning("waiting for the port", where=exc.filename)
                told = True
            time.sleep(_POLL_S)

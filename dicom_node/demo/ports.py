"""A port for a server that is started a moment later."""

import secrets
import socket
from typing import Final

#: Below the ports that the system gives to outgoing connections (Linux 32768, others 49152): one of
#: those, found free now, may be some connection's own before the server has it.
_PORTS: Final = range(20_000, 32_768)
_TRIES: Final = 1000
_given: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses; never the same one twice.

    Raises
    ------
    OSError
        When none is found.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}: end what listens there")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

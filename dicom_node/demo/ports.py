"""A port for a server that is started a moment later."""

import fcntl
import os
import secrets
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

#: Below the ports that the system gives to outgoing connections (Linux 32768, others 49152): one of
#: those, found free now, may be some connection's own before the server has it.
_PORTS: Final = range(20_000, 32_768)
_TRIES: Final = 1000
_given: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses; never the same one twice.

    Nor is one given that another process of this user got here, as long as that process lives.

    Raises
    ------
    OSError
        When none is found.
    """
    for _ in range(_TRIES):
        port = secrets.choice(_PORTS)
        if port not in _given and _is_ours(port) and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}: end what listens there")


def _is_ours(port: int) -> bool:
    try:
        fcntl.lockf(_book(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):  # both mean that another process has it
        return False
    return True


@cache
def _book() -> int:
    """Return an open file with a byte for each port; who locked the byte has the port."""
    path = Path(tempfile.gettempdir()) / f"dicom-node-ports-{os.getuid()}"
    # never closed: that would give up the locks
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""One owner for the data folder and the port."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dicom_node import log
from dicom_node.config import NodeSettings
from dicom_node.errors import ConfigError

#: A restarted supervisor waits so long for the children of a killed one to leave the port.
PORT_WAIT_S = 10.0


@contextmanager
def owned(data: Path) -> Iterator[None]:
    """Hold the data folder: two nodes on one folder would destroy each other's work."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _open_private(data / "node.lock").close()
    except OSError as exc:
        raise ConfigError(
            f"node.data: {data} cannot be written ({exc.strerror}); "
            "give this user the folder, or name another"
        ) from None
    with locked(data / "node.lock", wait_for_it=False):
        yield


@contextmanager
def locked(path: Path, *, wait_for_it: bool) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when its owner dies."""
    with _open_private(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait_for_it else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ConfigError(
                f"node.data: {path.parent} is in use by another node; stop it or use another folder"
            ) from None
        yield


def _open_private(path: Path) -> IO[str]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")


def wait_for_port(node: NodeSettings) -> None:
    """Fail when somebody else has the port: SO_REUSEPORT would share it without a word."""
    deadline, told = time.monotonic() + PORT_WAIT_S, False
    while True:
        with socket.socket(socket.AF_INET6 if ":" in node.bind else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((node.bind, node.port))
            except OSError as exc:
                if not told:
                    log.get("node").warning("waiting for the port", host=node.bind, port=node.port)
                    told = True
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"node.port: {node.bind}:{node.port} cannot be used ({exc.strerror}); "
                        "choose a free port, or end what listens there"
                    ) from None
                time.sleep(0.2)
            else:
                return

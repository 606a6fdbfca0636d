"""A process of its own for work that may hang, crash or eat memory.

The parent talks to it through a socket pair: JSON words and blocks of bytes, nothing is pickled. A
helper that died or fell silent is ended and another is started; whoever uses one decides when.
"""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final

#: A process that was told to go gets so long before it is killed.
FAREWELL_S: Final = 2.0
_MEBIBYTE: Final = 2**20
#: What is on its way may be so long before who sends it has to wait: a picture of most scanners.
#: Otherwise it goes in pieces, and a reader with other threads waits for its turn for each.
_ON_THE_WAY_BYTES: Final = 2**20


class HelperSilentError(Exception):
    """It neither took nor said anything in time."""


class HelperGoneError(Exception):
    """It hung up or died; `status` is its exit status, None when it still runs."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.status = status


class HelperProcess:
    """A running helper.

    Parameters
    ----------
    module : str
        Run as ``python -m MODULE FILE_DESCRIPTOR ARGUMENT...``; it calls `connected` first.
    *arguments : str
        What else the module is told.
    environment : mapping of str to str, optional
        On top of this process's.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        ours, theirs = Pipe(duplex=True)
        for end in (ours, theirs):
            _set_room(end.fileno(), _ON_THE_WAY_BYTES)
        self._connection: Connection[Any, Any] = ours
        # the search path of this process: a checkout that is not installed works, too
        search_path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
            pass_fds=[theirs.fileno()],
            env=os.environ | (environment or {}) | search_path,
            stdin=subprocess.DEVNULL,
            # what a library prints may quote a file
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def say(self, words: Mapping[str, object], *blocks: memoryview, timeout_s: float) -> None:
        """Send words, and blocks after them.

        Raises
        ------
        HelperSilentError
            When it takes nothing for so long.
        HelperGoneError
            When it is no longer there.
        """
        try:
            _set_send_timeout(self._connection.fileno(), timeout_s)
            self._connection.send_bytes(json.dumps(words).encode())
            for block in blocks:
                self._connection.send_bytes(block)
        except BlockingIOError:
            raise HelperSilentError from None
        except OSError:
            raise self._gone() from None

    def hear(self, timeout_s: float) -> bytes:
        """Return the next block; raises as `say`."""
        try:
            if not self._connection.poll(timeout_s):
                raise HelperSilentError
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._gone() from None

    def words(self, timeout_s: float) -> dict[str, Any]:
        """Return the next words; raises as `say`."""
        found = json.loads(self.hear(timeout_s))
        return found if isinstance(found, dict) else {}

    def stop(self, patience_s: float = 0.0) -> None:
        """End it: asked by the closed connection, then killed."""
        self._connection.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _gone(self) -> HelperGoneError:
        try:
            return HelperGoneError(self._process.wait(FAREWELL_S))
        except subprocess.TimeoutExpired:
            return HelperGoneError(None)


def connected(descriptor: int, *, memory_mib: int | None) -> "Connection[Any, Any]":
    """Return a helper's side of the connection, once its memory is bounded.

    Parameters
    ----------
    descriptor : int
        Its first argument.
    memory_mib : int or None
        The most data that it may hold, enforced by the kernel on Linux; None for no bound.
    """
    # Ctrl-C and systemd tell every process of a service at once; it leaves with the one that asks
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)  # what it works on stays out of core files
    if memory_mib is not None:
        _limit(resource.RLIMIT_DATA, memory_mib * _MEBIBYTE)
    threading.Thread(target=_leave_with_parent, args=(descriptor,), daemon=True).start()
    return Connection(descriptor)


def has_library(name: str) -> bool:
    """Whether the system has a shared library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _leave_with_parent(descriptor: int) -> None:
    """End this process when the other side is gone, however deep in its work it is."""
    poll = select.poll()
    poll.register(descriptor, 0)  # POLLHUP is always told
    poll.poll()
    os._exit(0)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def _set_room(descriptor: int, size_bytes: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)


def _set_send_timeout(descriptor: int, timeout_s: float) -> None:
    seconds, rest = divmod(timeout_s, 1)
    with socket.socket(fileno=os.dup(descriptor)) as same:
        limit = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
        same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

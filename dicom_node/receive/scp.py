"""One process's receiver: listen, take, and on stop let the running associations finish."""

import ctypes
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Protocol

from pynetdicom import AE, _config

from dicom_node import log
from dicom_node.certificates import ServerContext
from dicom_node.config import NodeSettings
from dicom_node.errors import NodeError
from dicom_node.inbox import Inbox
from dicom_node.listeners import Listener
from dicom_node.receive.contexts import VERIFICATION
from dicom_node.receive.handlers import ANY, handlers
from dicom_node.receive.reader import MAXIMUM_PDU_BYTES
from dicom_node.receive.server import Connections, NodeServer

#: On stop an association that is quiet for so long counts as finished.
_IDLE_S: Final = 1.0
#: How often the listeners and the receiver look whether they shall end.
_POLL_S: Final = 0.1
#: Of glibc's mallopt(3).
_M_ARENA_MAX: Final = -8


class Flag(Protocol):
    """An event of `threading` or of `multiprocessing`."""

    def set(self) -> None:
        """Raise the flag."""

    def is_set(self) -> bool:
        """Whether the flag is raised."""


def run_receiver(
    settings: NodeSettings,
    inbox: Inbox,
    listeners: Sequence[Listener],
    *,
    ready: Flag,
    stop: Flag,
) -> None:
    """Receive until `stop`, then drain.

    Every process takes up to ``settings.max_associations`` at a time. On stop it stops accepting;
    running associations may finish for ``settings.drain_s``, then they are aborted.

    Parameters
    ----------
    settings : NodeSettings
    inbox : Inbox
    listeners : sequence of Listener
        Closed at the end.
    ready : Flag
        Raised when connections are accepted.
    stop : Flag
        Ends the receiver.

    Raises
    ------
    ConfigError
        When the TLS files cannot be used.
    NodeError
        When a listener ended by itself.
    """
    _share_heaps()
    # the library's own handlers format every message, identities included, for its log
    _config.LOG_HANDLER_LEVEL = "none"
    _warn_of_wildcards(settings)
    connections = Connections(
        limit=2 * settings.max_associations + 16,
        limit_per_host=settings.max_connections_per_host,
    )
    with ExitStack() as stack:
        threads = [
            stack.enter_context(_accepting(settings, inbox, connections, listener))
            for listener in listeners
        ]
        ready.set()
        # no wait() on the flag: a process killed in it would hang whoever raises the flag later
        while not stop.is_set():
            for thread in threads:
                thread.join(_POLL_S / len(threads))
                if not thread.is_alive():
                    raise NodeError(f"{thread.name} ended by itself")
    _drain(connections, settings.drain_s)


@contextmanager
def _accepting(
    settings: NodeSettings, inbox: Inbox, connections: Connections, listener: Listener
) -> Iterator[threading.Thread]:
    ae = _application_entity(settings)
    server = NodeServer(
        ae,
        (settings.bind, listener.port),
        settings.ae_title,
        ae.supported_contexts,
        evt_handlers=handlers(settings, inbox, lambda: connections.established),
        listener=listener.socket,
        inbox=inbox,
        connections=connections,
        tls=ServerContext(settings.tls) if settings.tls and listener.is_tls else None,
    )
    thread = threading.Thread(
        target=server.serve_forever, args=(_POLL_S,), name=f"port {listener.port}", daemon=True
    )
    thread.start()
    log.get("receive").info(
        "listening",
        host=settings.bind,
        port=listener.port,
        kind="TLS" if listener.is_tls else "plain",
    )
    try:
        yield thread
    finally:
        server.stop_accepting()


def _application_entity(settings: NodeSettings) -> AE:
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(VERIFICATION)  # the others: handlers.py, as each peer proposes them
    ae.maximum_pdu_size = MAXIMUM_PDU_BYTES
    # silent connections must not count: handlers.py counts the established ones
    ae.maximum_associations = 1 << 16
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.network_timeout_s
    return ae


def _warn_of_wildcards(settings: NodeSettings) -> None:
    if not settings.callers:
        log.get("receive").warning(
            "nobody_may_send", reason="node.callers is empty: every association will be rejected"
        )
    for caller in settings.callers:
        if ANY in (caller.ae_title, caller.host):
            log.get("receive").warning(
                "wildcard_caller",
                ae_title=caller.ae_title,
                host=caller.host,
                reason="any AE title or any host may send: name them in node.callers",
            )


def _drain(connections: Connections, drain_s: float) -> None:
    deadline = time.monotonic() + drain_s
    while associations := list(connections):
        is_over = time.monotonic() > deadline
        for assoc in associations:
            if is_over or assoc.idle_s > _IDLE_S:
                assoc.end()
        associations[0].join(_POLL_S)


def _share_heaps() -> None:
    """Let threads share two heaps of glibc; by default each keeps what its peer made it take."""
    with suppress(AttributeError, OSError):  # another C library has no such choice
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)

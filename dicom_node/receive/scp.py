"""One process's receiver: listen, take, and on stop let the running associations finish."""

import threading
import time
from typing import Final, Protocol, cast

from pynetdicom import AE, _config
from pynetdicom.association import Association

from dicom_node import log
from dicom_node.config import NodeSettings
from dicom_node.errors import NodeError
from dicom_node.inbox import Inbox
from dicom_node.receive.contexts import VERIFICATION
from dicom_node.receive.dimse import StreamingDimse
from dicom_node.receive.handlers import ANY, handlers, wake
from dicom_node.receive.server import MAXIMUM_PDU_BYTES, NodeServer

#: On stop an association that is quiet for so long counts as finished.
_IDLE_S: Final = 1.0
#: How often the listener and the receiver look whether they shall end.
_POLL_S: Final = 0.1


class Flag(Protocol):
    """An event of `threading` or of `multiprocessing`."""

    def set(self) -> None:
        """Raise the flag."""

    def is_set(self) -> bool:
        """Whether the flag is raised."""


def run_receiver(
    settings: NodeSettings, inbox: Inbox, *, ready: Flag, stop: Flag, drain_s: float = 10.0
) -> None:
    """Receive until `stop`, then drain.

    Every process takes up to ``settings.max_associations`` at a time.

    Parameters
    ----------
    settings : NodeSettings
    inbox : Inbox
    ready : Flag
        Raised when the port accepts connections.
    stop : Flag
        Ends the receiver: it stops accepting, running associations may finish.
    drain_s : float
        Seconds until associations that do not finish are aborted.

    Raises
    ------
    OSError
        When the port cannot be bound.
    NodeError
        When the listener ended by itself.
    """
    # the library's own handlers format every message, identities included, for its log
    _config.LOG_HANDLER_LEVEL = "none"
    _warn_of_wildcards(settings)
    ae = _application_entity(settings)
    server = _server(ae, settings, inbox)
    listener = threading.Thread(
        target=server.serve_forever, args=(_POLL_S,), name="listener", daemon=True
    )
    listener.start()
    log.get("receive").info("listening", host=settings.bind, port=settings.port)
    ready.set()
    # no wait() on the flag: a process killed in it would hang whoever raises the flag later
    while listener.is_alive() and not stop.is_set():
        listener.join(_POLL_S)
    if not listener.is_alive():
        raise NodeError(f"the listener on port {settings.port} ended by itself")
    server.stop_accepting()
    _drain(ae, drain_s)


def _application_entity(settings: NodeSettings) -> AE:
    ae = AE(ae_title=settings.ae_title)
    ae.add_supported_context(VERIFICATION)  # the others: handlers.py, as each peer proposes them
    ae.maximum_pdu_size = MAXIMUM_PDU_BYTES
    # silent connections must not count: handlers.py counts the established ones
    ae.maximum_associations = _max_connections(settings) + 1
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.network_timeout_s
    return ae


def _server(ae: AE, settings: NodeSettings, inbox: Inbox) -> NodeServer:
    server = ae.make_server(
        (settings.bind, settings.port),
        evt_handlers=handlers(settings),
        server_class=NodeServer,
        inbox=inbox,
        is_shared=settings.processes > 1,
        max_connections=_max_connections(settings),
    )
    return cast(NodeServer, server)


def _max_connections(settings: NodeSettings) -> int:
    return 2 * settings.max_associations + 16


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


def _drain(ae: AE, drain_s: float) -> None:
    deadline = time.monotonic() + drain_s
    while associations := ae.active_associations:
        is_over = time.monotonic() > deadline
        for assoc in associations:
            if is_over or _is_idle(assoc):
                _end(assoc)
            assoc.join(0.1)


def _is_idle(assoc: Association) -> bool:
    dimse = assoc.dimse
    return not isinstance(dimse, StreamingDimse) or dimse.idle_s > _IDLE_S


def _end(assoc: Association) -> None:
    connection = assoc.dul.socket
    if assoc.is_established:
        assoc.abort(block=False)
        assoc.join(0.5)
    if assoc.is_alive() and connection is not None:
        connection._shutdown_socket()  # wakes a reader that waits for the rest of a PDU
    assoc.kill()
    wake(assoc)

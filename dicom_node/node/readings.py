"""What the supervisor reads when it is scraped, beside the pages of its children."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from dicom_node import __version__, metrics
from dicom_node.certificates import expiry
from dicom_node.config import TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.inbox import Inbox
from dicom_node.metrics import Kind, Metric
from dicom_node.node.children import Child
from dicom_node.web import Reading

WAITING: Final = Metric(
    name="inbox_waiting", kind=Kind.GAUGE, help="files that wait to be registered"
)
IN_FLIGHT: Final = Metric(name="in_flight", kind=Kind.GAUGE, help="transfers that are going on")
PULLED: Final = Metric(
    name="pulled",
    kind=Kind.COUNTER,
    help="files that dicom-node harvest put into the inbox itself; C-MOVE counts as received",
)
INBOX_BYTES: Final = Metric(name="inbox_bytes", kind=Kind.GAUGE, help="what the inbox holds")
DISK_FREE: Final = Metric(
    name="disk_free_bytes", kind=Kind.GAUGE, help="free on the disk of node.data"
)
READY: Final = Metric(
    name="process_ready",
    kind=Kind.GAUGE,
    help="1 when the process runs and is ready",
    labels={"process": ()},
)
ALIVE_AT: Final = replace(metrics.ALIVE_AT, labels={"process": ()})
RESTARTS: Final = Metric(
    name="process_restarts",
    kind=Kind.COUNTER,
    help="how often a process that died was started again",
    labels={"process": ()},
)
BUILD: Final = Metric(
    name="build", kind=Kind.GAUGE, help="1, with the version that runs", labels={"version": ()}
)
CERTIFICATE: Final = Metric(
    name="certificate_ends_timestamp_seconds",
    kind=Kind.GAUGE,
    help="when the TLS certificate ends; 0 when it cannot serve; absent without TLS",
)
READINGS: Final = (
    WAITING,
    IN_FLIGHT,
    PULLED,
    INBOX_BYTES,
    DISK_FREE,
    READY,
    ALIVE_AT,
    RESTARTS,
    BUILD,
    CERTIFICATE,
)

_Rows = Iterable[tuple[tuple[str, ...], float]]


def readings(
    inbox: Inbox, children: Sequence[Child], tls: TlsSettings | None = None
) -> list[Reading]:
    """Return what is read at a scrape.

    Parameters
    ----------
    inbox : Inbox
    children : sequence of Child
        Every process of the node but the supervisor.
    tls : TlsSettings or None
    """

    def each(number: Callable[[Child], float]) -> Callable[[], _Rows]:
        return lambda: [((child.name,), number(child)) for child in children]

    # what was pulled before the node started is among what it adopted
    before = inbox.pulled.read()
    return [
        Reading(metric=WAITING, read=lambda: [((), len(inbox.waiting()))]),
        Reading(metric=IN_FLIGHT, read=lambda: [((), inbox.unfinished)]),
        Reading(metric=PULLED, read=lambda: [((), inbox.pulled.read() - before)]),
        Reading(metric=INBOX_BYTES, read=lambda: [((), inbox.size_bytes)]),
        Reading(metric=DISK_FREE, read=lambda: [((), shutil.disk_usage(inbox.folder).free)]),
        Reading(metric=READY, read=each(lambda child: child.is_ready)),
        Reading(metric=ALIVE_AT, read=each(lambda child: child.page.get(metrics.ALIVE_AT))),
        Reading(metric=RESTARTS, read=each(lambda child: child.restarts)),
        Reading(metric=BUILD, read=lambda: [((__version__,), 1.0)]),
        Reading(metric=CERTIFICATE, read=lambda: [((), _end(tls))] if tls else []),
    ]


def _end(tls: TlsSettings) -> float:
    try:
        return expiry(tls).timestamp()
    except ConfigError:
        return 0.0

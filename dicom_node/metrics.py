"""What the node counts, so that an engineer can see whether anything is lost.

Every object that a peer began to send, or that was pulled, ends in exactly one place. When the node
is at rest::

    received + adopted + pulled = kept (new, duplicate) + quarantined + refused + aborted
                         + waiting in the inbox

``received``, ``refused`` and ``aborted`` are counted by the receivers as transfers end (and by the
supervisor, for what a dead receiver left unfinished); ``kept`` and ``quarantined`` by the worker as
files leave the waiting line: the two sides check each other. ``adopted`` is what lay in the inbox
already when the node started; ``pulled`` is what ``dicom-node harvest`` put there since. Counts
begin at zero with the node and survive the death of a child: they stand in memory that belongs to
the supervisor, a `Page` for each child. (Prometheus' own files for several processes are sparse and
memory-mapped: on a full disk the first new number would kill its process with SIGBUS.) A receiver
that is killed between the count of a transfer and the rename of its file leaves a mark
(`Page.add_and`) that tells the supervisor whether it was counted. A child that is killed within the
microseconds between another step and its count costs a difference of one.

The series are fixed when the node starts: a label takes its values from the table below or from the
configuration, anything else counts as ``other``. No peer can make them grow, and none names a
patient, a study or a stranger's AE title.
"""

import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import product
from typing import Any, Final
from zlib import crc32

#: Where a label's value goes that is none of those expected.
OTHER: Final = "other"


class Kind(StrEnum):
    """What a reader may do with a number."""

    #: only grows
    COUNTER = "counter"
    #: goes up and down; of a dead process it is nothing
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number, or one for each combination of its labels' values."""

    name: str
    kind: Kind
    help: str
    #: label name -> the values that it may take; () = the configured destinations
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    #: upper bounds of a histogram, ascending; infinity is added
    buckets: tuple[float, ...] = ()
    #: whether the processes' numbers say nothing when they are added up
    is_own: bool = False


def _counter(name: str, text: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=Kind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=Kind.GAUGE, help=text, labels=labels)


def _seconds(name: str, text: str, *buckets: float, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=Kind.HISTOGRAM, help=text, labels=labels, buckets=buckets)


_STAGES: Final = (
    *("harvest", "analyse", "finish", "label", "send", "draw", "report", "ask", "move"),
    OTHER,
)

# told by every process of itself
ALIVE_AT: Final = Metric(
    name="alive_timestamp_seconds",
    kind=Kind.GAUGE,
    help="when a receiver last looked for connections, or the worker's sweep got on",
    is_own=True,
)

# counted by the receivers
RECEIVED: Final = _counter("received", "C-STORE transfers that ended, whatever their end")
RECEIVED_BYTES: Final = _counter("received_bytes", "bytes of data sets that came")
STORED: Final = _counter("stored", "objects that are durable in the inbox")
REFUSED: Final = _counter(
    "refused",
    "objects that the node did not take, by DIMSE status",
    status=("A700", "0110", "0117", "0122", "C000", OTHER),
)
ABORTED: Final = _counter("aborted", "transfers that were broken off")
ASSOCIATIONS: Final = _counter("associations", "associations that were accepted")
REJECTED: Final = _counter(
    "associations_rejected",
    "associations and connections that were turned away",
    reason=("caller", "limit", "no_room", OTHER),
)
OPEN: Final = _gauge("connections_open", "connections of peers, associated or silent")

# counted by the worker
ADOPTED: Final = _counter("adopted", "files that lay in the inbox when the node started")
KEPT: Final = _counter(
    "kept", "files that were registered, or were there already", outcome=("new", "duplicate")
)
QUARANTINED: Final = _counter(
    "quarantined",
    "files that were put aside: known with other bytes, or unreadable",
    reason=("conflict", "unreadable"),
)
COMPLETED: Final = _counter(
    "studies_completed",
    "completions of studies, by what decided",
    basis=(
        "storage commitment",
        "performed procedure step",
        "instance availability",
        "count",
        "quiet",
        "longest",
    ),
)
TO_COMPLETE: Final = _seconds(
    "complete_seconds", "from a study's last arrival to its completion", 1, 5, 15, 30, 60, 300, 3600
)
TO_DELIVERED: Final = _seconds(
    "delivered_seconds",
    "from a study's last arrival to the delivery of a result",
    *(5, 15, 30, 60, 120, 300, 900, 3600, 86400),
    destination=(),
)
STAGE_SECONDS: Final = _seconds(
    "stage_seconds",
    "how long a stage of a job took",
    *(0.1, 1, 5, 15, 60, 300, 900),
    stage=_STAGES,
)
STAGE_FAILURES: Final = _counter(
    "stage_failures",
    "stages that ended with an error; temporary ones are tried again",
    stage=_STAGES,
)
DELIVERIES: Final = _counter(
    "deliveries",
    "attempts to deliver an object, and answers to the question for its commitment",
    destination=(),
    verdict=("stored", "delivered", "temporary", "permanent"),
)
STUDIES: Final = _gauge("studies", "studies in the index", state=("open", "complete"))
JOBS: Final = _gauge(
    "jobs",
    "jobs that wait or run, or failed; at most 1000 are counted",
    state=("unfinished", "failed"),
)
PROGRESS_AT: Final = _gauge(
    "jobs_progress_timestamp_seconds", "when a job last got further, or there was none to do"
)
OUTBOX_WAITING: Final = _gauge("outbox_waiting", "objects that are owed", destination=())
OUTBOX_STORED: Final = _gauge(
    "outbox_stored",
    "objects that are stored, and that the destination has not committed to keep",
    destination=(),
)
OUTBOX_DEAD: Final = _gauge("outbox_dead", "objects that were given up", destination=())
OUTBOX_OLDEST: Final = _gauge(
    "outbox_oldest_seconds", "how long the oldest object that is owed waits", destination=()
)
DOWN: Final = _gauge(
    "destination_down_seconds",
    "how long a destination has been down; 0 when it is not",
    destination=(),
)

#: What each process has a place for in its page; `dicom_node.web` adds what the supervisor sees.
METRICS: Final = (
    ALIVE_AT,
    RECEIVED,
    RECEIVED_BYTES,
    STORED,
    REFUSED,
    ABORTED,
    ASSOCIATIONS,
    REJECTED,
    OPEN,
    ADOPTED,
    KEPT,
    QUARANTINED,
    COMPLETED,
    TO_COMPLETE,
    TO_DELIVERED,
    STAGE_SECONDS,
    STAGE_FAILURES,
    DELIVERIES,
    STUDIES,
    JOBS,
    PROGRESS_AT,
    OUTBOX_WAITING,
    OUTBOX_STORED,
    OUTBOX_DEAD,
    OUTBOX_OLDEST,
    DOWN,
)

_Key = tuple[str, ...]
#: Behind the metrics of a page: a number before its last `Page.add_and`, and the mark of the file.
_MARK_LENGTH: Final = 2


class Page:
    """The numbers of one process.

    Parameters
    ----------
    destinations : iterable of str
        Names of the configured destinations.
    memory : mutable sequence of float, optional
        `size(destinations)` zeros, shared with the process that reads them; private when None.
    """

    def __init__(
        self, destinations: Iterable[str] = (), memory: MutableSequence[float] | None = None
    ) -> None:
        self._destinations = tuple(destinations)
        self._places, length = _layout(self._destinations)
        self._memory = array("d", bytes(8 * (length + _MARK_LENGTH))) if memory is None else memory
        self._before, self._mark = length, length + 1
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., "Page"], tuple[Any, ...]]:
        return Page, (self._destinations, self._memory)  # a lock does not travel to a child

    def add(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Count."""
        place = self._place(metric, labels)
        with self._lock:
            self._memory[place] += by

    def add_and(self, metric: Metric, file_id: str, step: Callable[[], None]) -> None:
        """Count, and take a step of a file from which no kill shall part the count.

        Nothing else is counted meanwhile: what stands before and after tells whether it was.
        """
        place = self._place(metric, ())
        with self._lock:
            self._memory[self._before] = self._memory[place]
            self._memory[self._mark] = _mark_of(file_id)
            self._memory[place] += 1
            step()

    def has_counted(self, metric: Metric, file_id: str) -> bool:
        """Whether a process that died over the step of this file had counted it."""
        is_this = self._memory[self._mark] == _mark_of(file_id)
        return is_this and self._memory[self._place(metric, ())] > self._memory[self._before]

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._memory[self._place(metric, labels)] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Put a value into a histogram."""
        place, bounds = self._place(metric, labels), metric.buckets
        bucket = next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))
        with self._lock:
            self._memory[place + bucket] += 1
            self._memory[place + len(bounds) + 1] += value

    def get(self, metric: Metric, *labels: str) -> float:
        """Return a counter or a gauge; of all its labels' values together when none is named."""
        return sum(self.values(metric, labels or None).values())

    def values(self, metric: Metric, only: _Key | None = None) -> dict[_Key, float]:
        """Return the number for each combination of labels."""
        return {key: row[0] for key, row in self.rows(metric).items() if only in (None, key)}

    def rows(self, metric: Metric) -> dict[_Key, tuple[float, ...]]:
        """Return, for each combination of labels, its number; of a histogram buckets and sum."""
        width = _width(metric)
        return {
            key[1:]: tuple(self._memory[place : place + width])
            for key, place in self._places.items()
            if key[0] == metric.name
        }

    def forget_gauges(self) -> None:
        """Set every gauge to 0: its process is dead."""
        for metric in METRICS:
            if metric.kind is Kind.GAUGE:
                for labels in self.rows(metric):
                    self.set(metric, 0.0, *labels)

    def _place(self, metric: Metric, labels: _Key) -> int:
        place = self._places.get((metric.name, *labels))
        if place is None:
            domains = (values or self._destinations for values in metric.labels.values())
            known = (
                value if value in domain else OTHER
                for value, domain in zip(labels, domains, strict=True)
            )
            place = self._places[(metric.name, *known)]
        return place


def size(destinations: Iterable[str]) -> int:
    """Return how many numbers a page has."""
    return _layout(tuple(destinations))[1] + _MARK_LENGTH


def use(page: Page) -> None:
    """Let this process count on `page`; without it a process counts for itself alone."""
    _current[:] = [page]


def page() -> Page:
    """Return the page that this process counts on."""
    if not _current:
        _current.append(Page())
    return _current[0]


def count(metric: Metric, *labels: str, by: float = 1.0) -> None:
    """Count on this process's page."""
    page().add(metric, *labels, by=by)


_current: list[Page] = []


def _mark_of(file_id: str) -> float:
    return 1.0 + crc32(file_id.encode())  # 0 is no file


@cache
def _layout(destinations: tuple[str, ...]) -> tuple[dict[_Key, int], int]:
    places: dict[_Key, int] = {}
    length = 0
    for metric in METRICS:
        domains = [values or (*destinations, OTHER) for values in metric.labels.values()]
        for labels in product(*domains):
            places[(metric.name, *labels)] = length
            length += _width(metric)
    return places, length


def _width(metric: Metric) -> int:
    return len(metric.buckets) + 2 if metric.kind is Kind.HISTOGRAM else 1

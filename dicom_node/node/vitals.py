"""What the worker tells of itself: how far it is, and what the databases hold."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dicom_node import metrics
from dicom_node.index import Index
from dicom_node.jobs import Dispatcher, Kind, Stage
from dicom_node.metrics import Page
from dicom_node.outbox import DeliveryState, Outbox

#: Counting rows costs milliseconds; a scraper comes every 15 to 60 s.
SAMPLE_S: Final = 10.0
#: More jobs than this are not counted out.
MOST_JOBS: Final = 1000
_BACKLOGS: Final = {
    DeliveryState.WAITING: metrics.OUTBOX_WAITING,
    DeliveryState.STORED: metrics.OUTBOX_STORED,
    DeliveryState.DEAD: metrics.OUTBOX_DEAD,
}


class Vitals:
    """Writes the worker's gauges.

    Parameters
    ----------
    page : Page
        The worker's.
    index : Index
    outbox : Outbox
    dispatcher : Dispatcher
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        page: Page,
        index: Index,
        outbox: Outbox,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._page = page
        self._index, self._outbox, self._dispatcher = index, outbox, dispatcher
        self._clock = clock
        self._sampled_at = 0.0

    def swept(self) -> None:
        """Note that the sweep gets on; now and then count what the databases hold."""
        now = self._clock()
        self._page.set(metrics.ALIVE_AT, now)
        if abs(now - self._sampled_at) >= SAMPLE_S:
            self._sampled_at = now
            self.sample()

    def sample(self) -> None:
        """Count what the databases hold."""
        counts = self._index.counts()
        for state in metrics.STUDIES.labels["state"]:
            self._page.set(metrics.STUDIES, counts[f"studies_{state}"], state)
        unfinished = len(self._dispatcher.unfinished(MOST_JOBS))
        self._page.set(metrics.JOBS, unfinished, "unfinished")
        self._page.set(metrics.JOBS, len(self._dispatcher.failed(MOST_JOBS)), "failed")
        if not unfinished or not self._page.get(metrics.PROGRESS_AT):
            self._page.set(metrics.PROGRESS_AT, self._clock())
        self._sample_outbox()

    def _sample_outbox(self) -> None:
        for destination in self._page.rows(metrics.OUTBOX_WAITING):
            for metric in (*_BACKLOGS.values(), metrics.OUTBOX_OLDEST, metrics.DOWN):
                self._page.set(metric, 0.0, *destination)
        now = self._clock()
        for backlog in self._outbox.backlogs():
            # a destination that was taken out of the configuration counts with the others
            self._page.add(_BACKLOGS[backlog.state], backlog.destination, by=backlog.count)
            if backlog.state is DeliveryState.WAITING:
                age_s = now - backlog.oldest_at.timestamp()
                self._page.set(metrics.OUTBOX_OLDEST, age_s, backlog.destination)
        for outage in self._outbox.outages.all():
            self._page.set(metrics.DOWN, now - outage.since.timestamp(), outage.destination)


def watched(
    kinds: Mapping[str, Kind], page: Page, *, clock: Callable[[], float] = time.time
) -> dict[str, Kind]:
    """Return the same kinds of jobs, with stages that are counted and timed on a page."""
    return {
        name: replace(
            kind,
            stages=tuple((stage, _watched(stage, run, page, clock)) for stage, run in kind.stages),
        )
        for name, kind in kinds.items()
    }


def _watched(name: str, run: Stage, page: Page, clock: Callable[[], float]) -> Stage:
    def stage(arguments: Sequence[str]) -> dict[str, int]:
        began = time.perf_counter()
        page.set(metrics.PROGRESS_AT, clock())
        try:
            return run(arguments)
        except BaseException:
            page.add(metrics.STAGE_FAILURES, name)
            raise
        finally:
            page.set(metrics.PROGRESS_AT, clock())
            page.observe(metrics.STAGE_SECONDS, time.perf_counter() - began, name)

    return stage

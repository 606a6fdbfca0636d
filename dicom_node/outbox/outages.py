"""Which destinations are down: one row for each, gone when it answers.

While there is a row, one study is tried when its time comes, and finds out for all that are owed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.backoff import retry_delay_s
from dicom_node.outbox.rows import Errand
from dicom_node.outbox.tables import METADATA

#: Who finds out and is not heard of for so long, is followed by another.
PROBE_S: Final = 60.0

OUTAGE: Final = sa.Table(
    "outage",
    METADATA,
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("next_try_at", sa.Float, nullable=False),
    # the study that finds out, null when none is on its way
    sa.Column("probe", sa.String),
    sa.Column("reason", sa.String, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A destination that is down, as ``status`` shows it."""

    destination: str
    since: datetime
    #: attempts that failed since then
    failures: int
    next_try_at: datetime
    #: Study Instance UID of what is on its way to find out
    probe: str | None
    reason: str


class Outages:
    """The table of outages.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the outbox.
    reads : sqlalchemy.Engine
        The same for statements that only read.
    """

    def __init__(self, engine: sa.Engine, reads: sa.Engine) -> None:
        self._engine, self._reads = engine, reads

    def all(self) -> list[Outage]:
        """Return the destinations that are down, the longest first."""
        with self._reads.connect() as connection:
            rows = connection.execute(sa.select(OUTAGE).order_by(OUTAGE.c.since))
            return [_outage(row) for row in rows]

    def find(self, destination: str) -> Outage | None:
        """Return what is known of a destination that is down, None for one that is not."""
        with self._reads.connect() as connection:
            row = connection.execute(sa.select(OUTAGE).where(_of(destination))).first()
        return None if row is None else _outage(row)

    def let_through(self, errands: Sequence[Errand], now: datetime) -> list[Errand]:
        """Return the errands that may go: of a destination that is down, the first one.

        That one is noted: it is on its way to find out, and the others wait for it.
        """
        down = {outage.destination: outage.next_try_at <= now for outage in self.all()}
        through = []
        for errand in errands:
            if down.get(errand.destination, True):
                through.append(errand)
            if down.get(errand.destination):
                down[errand.destination] = False
                self._set(
                    errand.destination,
                    probe=errand.study_instance_uid,
                    next_try_at=now.timestamp() + PROBE_S,
                )
        return through

    def failed(
        self, destination: str, *, reason: str, now: datetime, rng: random.Random
    ) -> Outage | None:
        """Note that there was no connection, and when the next is tried."""
        at = now.timestamp()
        with self._engine.begin() as connection:
            query = sa.select(OUTAGE.c.failures).where(_of(destination))
            failures = connection.scalar(query) or 0
            news = {
                "failures": failures + 1,
                "next_try_at": at + retry_delay_s(failures, rng),
                "probe": None,
                "reason": reason,
            }
            row = insert(OUTAGE).values({"destination": destination, "since": at} | news)
            connection.execute(
                row.on_conflict_do_update(index_elements=[OUTAGE.c.destination], set_=news)
            )
        return self.find(destination)

    def nothing_found_out(self, destination: str, now: datetime) -> None:
        """Note that what was on its way had nothing to send any more: another may go."""
        self._set(destination, probe=None, next_try_at=now.timestamp())

    def ended(self, destination: str) -> Outage | None:
        """Note that the destination answered; return the outage that this ended."""
        outage = self.find(destination)
        if outage is not None:
            with self._engine.begin() as connection:
                connection.execute(sa.delete(OUTAGE).where(_of(destination)))
        return outage

    def _set(self, destination: str, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.update(OUTAGE).where(_of(destination)).values(**values))


def held_back(now: datetime) -> sa.Select[Any]:
    """Ask for the names of the destinations that nothing is sent to now."""
    return sa.select(OUTAGE.c.destination).where(OUTAGE.c.next_try_at > now.timestamp())


def _of(destination: str) -> sa.ColumnElement[bool]:
    return OUTAGE.c.destination == destination


def _outage(row: sa.Row[Any]) -> Outage:
    values = dict(row._mapping)
    for name in ("since", "next_try_at"):
        values[name] = datetime.fromtimestamp(values[name], UTC)
    return Outage(**values)

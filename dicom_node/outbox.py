"""What the node owes its destinations: one row for each object and destination, on disk.

A row is `WAITING` until the destination said yes (`DELIVERED`) or said never (`DEAD`). Its due time
is the retry timer, so a restart forgets nothing. Which images were analysed by which models stands
here too, written in the same transaction as the results: after a crash a study is either analysed
with all its results owed, or not analysed.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading, open_sqlite
from dicom_node.records import Result, ResultKind

#: 30 s, doubled after each failure, at most 10 minutes, for ever: a PACS may be down for days.
FIRST_RETRY_S = 30.0
LONGEST_RETRY_S = 600.0
#: A delivery that was handed out and not heard of for so long is handed out again.
LEASE_S = 600.0

_metadata = sa.MetaData()
_result = sa.Table(
    "result",
    _metadata,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("sop_class_uid", sa.String, nullable=False),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("source_sop_instance_uid", sa.String, nullable=False),
    sa.Column("file_name", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)
_delivery = sa.Table(
    "delivery",
    _metadata,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Index("delivery_due", "state", "due_at"),
)
# how often what one destination is owed of one study was handed out
_errand = sa.Table(
    "errand",
    _metadata,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("lease", sa.Integer, nullable=False),
)
_analysed = sa.Table(
    "analysed",
    _metadata,
    sa.Column("sop_instance_uid", sa.String, primary_key=True),
    sa.Column("models", sa.String, primary_key=True),
    sa.Column("analysed_at", sa.Float, nullable=False),
)


class DeliveryState(StrEnum):
    """Where one object stands with one destination."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class Errand:
    """The objects of one study that one destination is owed now."""

    study_instance_uid: str
    destination: str
    #: how often it was handed out before; names this handing-out
    lease: int


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """One object and one destination, as ``queue list`` shows it."""

    sop_instance_uid: str
    study_instance_uid: str
    kind: ResultKind
    destination: str
    state: DeliveryState
    attempts: int
    due_at: datetime
    #: DIMSE status of the last answer, None when there was none
    status: int | None
    reason: str
    changed_at: datetime


class Outbox:
    """The durable outbox.

    Parameters
    ----------
    path : Path
        SQLite file, made when absent.
    results : Path
        Folder of the objects; rows keep only file names, so the data folder may move.
    """

    def __init__(self, path: Path, results: Path) -> None:
        self._engine = open_sqlite(path, _metadata)
        self._reads = for_reading(self._engine)
        self._results = results

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def add(
        self,
        results: Sequence[Result],
        owed: Iterable[tuple[Result, str]],
        *,
        analysed: str,
        models: str,
        now: datetime,
    ) -> None:
        """Record that `analysed` was analysed by `models`, with what is owed to whom.

        Everything or nothing; the same call again changes nothing.

        Parameters
        ----------
        results : sequence of Result
            Objects that passed the gate, already durable on disk.
        owed : iterable of (Result, str)
            Pairs of object and destination name.
        analysed : str
            SOP Instance UID of the image.
        models : str
            Fingerprint of the models that were asked, and of the bytes that they saw.
        now : datetime
            Aware.
        """
        at = now.timestamp()
        with self._engine.begin() as connection:
            for result in results:
                row = {
                    "sop_instance_uid": result.sop_instance_uid,
                    "kind": result.kind.value,
                    "sop_class_uid": result.sop_class_uid,
                    "study_instance_uid": result.study_instance_uid,
                    "source_sop_instance_uid": result.source_sop_instance_uid,
                    "file_name": result.path.name,
                    "created_at": at,
                }
                connection.execute(insert(_result).values(row).on_conflict_do_nothing())
            for result, destination in owed:
                waiting = {
                    "sop_instance_uid": result.sop_instance_uid,
                    "destination": destination,
                    "state": DeliveryState.WAITING.value,
                    "attempts": 0,
                    "due_at": at,
                    "reason": "",
                    "changed_at": at,
                }
                connection.execute(insert(_delivery).values(waiting).on_conflict_do_nothing())
            done = {"sop_instance_uid": analysed, "models": models, "analysed_at": at}
            connection.execute(insert(_analysed).values(done).on_conflict_do_nothing())

    def is_analysed(self, sop_instance_uid: str, models: str) -> bool:
        """Whether these models already spoke of this image; `models` as in `add`."""
        found = sa.select(_analysed.c.models).where(
            _analysed.c.sop_instance_uid == sop_instance_uid, _analysed.c.models == models
        )
        with self._reads.connect() as connection:
            return connection.execute(found).first() is not None

    def due(self, now: datetime) -> list[Errand]:
        """Return the errands whose time has come, the longest waiting first."""
        study, name = _result.c.study_instance_uid, _delivery.c.destination
        handed_out = sa.and_(_errand.c.study_instance_uid == study, _errand.c.destination == name)
        query = (
            sa.select(study, name, sa.func.coalesce(sa.func.max(_errand.c.lease), 0))
            .select_from(_delivery.join(_result).outerjoin(_errand, handed_out))
            .where(_delivery.c.state == DeliveryState.WAITING)
            .where(_delivery.c.due_at <= now.timestamp())
            .group_by(study, name)
            .order_by(sa.func.min(_delivery.c.due_at))
        )
        with self._reads.connect() as connection:
            return [
                Errand(study_instance_uid=study, destination=destination, lease=lease)
                for study, destination, lease in connection.execute(query)
            ]

    def lease(self, errand: Errand, now: datetime) -> None:
        """Note that `errand` was handed out; it is due again only after `LEASE_S`."""
        counted = {
            "study_instance_uid": errand.study_instance_uid,
            "destination": errand.destination,
            "lease": errand.lease + 1,
        }
        upsert = insert(_errand).values(counted)
        with self._engine.begin() as connection:
            connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=[_errand.c.study_instance_uid, _errand.c.destination],
                    set_={"lease": upsert.excluded.lease},
                )
            )
            connection.execute(
                sa.update(_delivery)
                .where(self._of(errand), _delivery.c.due_at <= now.timestamp())
                .values(due_at=now.timestamp() + LEASE_S)
            )

    def waiting(self, errand: Errand) -> list[Result]:
        """Return the objects of an errand that are still owed, SEG before the SR on them."""
        query = (
            sa.select(_result)
            .select_from(_result.join(_delivery))
            .where(self._of(errand))
            .order_by(_result.c.kind, _result.c.sop_instance_uid)
        )
        with self._reads.connect() as connection:
            return [_to_result(row, self._results) for row in connection.execute(query)]

    def delivered(
        self, sop_instance_uid: str, destination: str, *, status: int, now: datetime
    ) -> None:
        """Note that the destination has it."""
        self._change(
            sop_instance_uid,
            destination,
            state=DeliveryState.DELIVERED.value,
            attempts=_delivery.c.attempts + 1,
            status=status,
            reason="",
            changed_at=now.timestamp(),
        )

    def postpone(
        self,
        sop_instance_uid: str,
        destination: str,
        *,
        status: int | None,
        reason: str,
        now: datetime,
        rng: random.Random,
    ) -> None:
        """Try again later: the row is due after the backoff, with 20 % jitter."""
        with self._engine.begin() as connection:
            where = _row(sop_instance_uid, destination)
            attempts = connection.scalar(sa.select(_delivery.c.attempts).where(where)) or 0
            delay_s = min(FIRST_RETRY_S * 2.0 ** min(attempts, 10), LONGEST_RETRY_S)
            connection.execute(
                sa.update(_delivery)
                .where(where, _delivery.c.state == DeliveryState.WAITING)
                .values(
                    attempts=attempts + 1,
                    due_at=now.timestamp() + delay_s * rng.uniform(0.8, 1.2),
                    status=status,
                    reason=reason,
                    changed_at=now.timestamp(),
                )
            )

    def bury(
        self,
        sop_instance_uid: str,
        destination: str,
        *,
        status: int | None,
        reason: str,
        now: datetime,
    ) -> None:
        """Make it a dead letter: it will never work as it is, until somebody retries it."""
        self._change(
            sop_instance_uid,
            destination,
            state=DeliveryState.DEAD.value,
            attempts=_delivery.c.attempts + 1,
            status=status,
            reason=reason,
            changed_at=now.timestamp(),
        )

    def rows(self, *states: DeliveryState, limit: int = 1000) -> list[DeliveryRow]:
        """Return rows in these states (all when none is named), the latest change first."""
        query = (
            sa.select(_delivery, _result.c.study_instance_uid, _result.c.kind)
            .select_from(_delivery.join(_result))
            .order_by(_delivery.c.changed_at.desc())
            .limit(limit)
        )
        if states:
            query = query.where(_delivery.c.state.in_([state.value for state in states]))
        with self._reads.connect() as connection:
            return [_to_row(row) for row in connection.execute(query)]

    def counts(self) -> dict[DeliveryState, int]:
        """Return how many rows are in each state."""
        query = sa.select(_delivery.c.state, sa.func.count()).group_by(_delivery.c.state)
        with self._reads.connect() as connection:
            found = {DeliveryState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in DeliveryState}

    def retry(self, *, now: datetime, destination: str | None = None) -> int:
        """Make every dead or waiting row due at once; returns how many."""
        where = _delivery.c.state != DeliveryState.DELIVERED
        if destination is not None:
            where = where & (_delivery.c.destination == destination)
        change = sa.update(_delivery).where(where)
        return self._count(
            change.values(
                state=DeliveryState.WAITING.value,
                due_at=now.timestamp(),
                changed_at=now.timestamp(),
            )
        )

    def drop(self, *, destination: str | None = None) -> int:
        """Forget the dead letters; returns how many. The objects stay on disk."""
        where = _delivery.c.state == DeliveryState.DEAD
        if destination is not None:
            where = where & (_delivery.c.destination == destination)
        return self._count(sa.delete(_delivery).where(where))

    def _of(self, errand: Errand) -> sa.ColumnElement[bool]:
        in_study = sa.select(_result.c.sop_instance_uid).where(
            _result.c.study_instance_uid == errand.study_instance_uid
        )
        return sa.and_(
            _delivery.c.destination == errand.destination,
            _delivery.c.state == DeliveryState.WAITING,
            _delivery.c.sop_instance_uid.in_(in_study),
        )

    def _change(self, sop_instance_uid: str, destination: str, **values: object) -> None:
        self._count(
            sa.update(_delivery).where(_row(sop_instance_uid, destination)).values(**values)
        )

    def _count(self, statement: sa.Update | sa.Delete) -> int:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount


def _row(sop_instance_uid: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        _delivery.c.sop_instance_uid == sop_instance_uid,
        _delivery.c.destination == destination,
    )


def _to_result(row: sa.Row[tuple[object, ...]], folder: Path) -> Result:
    return Result(
        kind=ResultKind(row.kind),
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        study_instance_uid=row.study_instance_uid,
        source_sop_instance_uid=row.source_sop_instance_uid,
        path=folder / row.file_name,
    )


def _to_row(row: sa.Row[tuple[object, ...]]) -> DeliveryRow:
    return DeliveryRow(
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        kind=ResultKind(row.kind),
        destination=row.destination,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        due_at=datetime.fromtimestamp(row.due_at, UTC),
        status=row.status,
        reason=row.reason,
        changed_at=datetime.fromtimestamp(row.changed_at, UTC),
    )

"""What destinations were asked to commit to, and what they answered (PS3.4 J)."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.backoff import retry_delay_s
from dicom_node.database import for_reading
from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.shadow import IS_SHADOW
from dicom_node.outbox.tables import DELIVERY, RESULT, VERSION
from dicom_node.outbox.transactions import (
    IS_STORED,
    PROMISE,
    PROMISED,
    asked,
    forget,
    is_row,
    one,
    unanswered,
)
from dicom_node.outbox.versions import HAS_VERSION

#: What was handed out and not heard of for so long is handed out again.
LEASE_S: Final = 600.0
#: An answer that takes longer than a week finds its question forgotten.
KEEP_S: Final = 7 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """That a destination does not commit to an object, and what follows."""

    #: WAITING: it is sent again; DEAD: it is given up; STORED: it is asked again
    state: DeliveryState
    #: Failure Reason (0008,1197)
    status: int
    #: for ``queue list``: what happened and what to do
    reason: str


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What an answer changed."""

    #: Study Instance UID of each object that is delivered by it
    delivered: list[str] = field(default_factory=list)
    #: state into which each other object went
    refused: list[DeliveryState] = field(default_factory=list)


class Promises:
    """The questions after commitment; made by `Outbox`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine, self._reads = engine, for_reading(engine)

    def stored(self, uid: str, destination: str, *, status: int, now: datetime) -> None:
        """Note that the destination has an object, and did not commit to keep it yet.

        Parameters
        ----------
        uid : str
            Its SOP Instance UID.
        destination : str
        status : int
            Of its C-STORE.
        now : datetime
            Aware.
        """
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(DELIVERY)
                .where(is_row(uid, destination))
                .values(
                    state=DeliveryState.STORED.value,
                    attempts=DELIVERY.c.attempts + 1,
                    status=status,
                    reason="",
                    # whoever stored it asks; it is handed out again when nobody did
                    due_at=now.timestamp() + LEASE_S,
                    changed_at=now.timestamp(),
                )
            )
            forget(connection, uid, destination)

    def ask(
        self, transaction_uid: str, destination: str, uids: Iterable[str], now: datetime
    ) -> None:
        """Write down a question, before it is asked."""
        at = now.timestamp()
        with self._engine.begin() as connection:
            last = sa.func.coalesce(PROMISE.c.due_at, PROMISE.c.asked_at)
            connection.execute(sa.delete(PROMISE).where(last < at - KEEP_S))
            question = sa.insert(PROMISE).values(
                transaction_uid=transaction_uid, destination=destination, asked_at=at
            )
            serial = connection.execute(question).lastrowid
            rows = [{"serial": serial, "sop_instance_uid": uid} for uid in uids]
            connection.execute(sa.insert(PROMISED), rows)

    def taken(
        self, transaction_uid: str, *, wait_s: float, now: datetime, rng: random.Random
    ) -> None:
        """Note that the destination took a question, and how long its answer is waited for.

        Questions without an answer become rarer, as attempts do.
        """
        at = now.timestamp()
        with self._engine.begin() as connection:
            found = connection.execute(one(transaction_uid)).one_or_none()
            if found is None:  # its answer came already
                return
            times = connection.scalar(unanswered(found.serial, found.destination)) or 0
            if times:
                wait_s = max(wait_s, retry_delay_s(times - 1, rng))
            connection.execute(
                sa.update(PROMISE)
                .where(PROMISE.c.serial == found.serial)
                .values(due_at=at + wait_s)
            )
            listed = sa.select(PROMISED.c.sop_instance_uid).where(PROMISED.c.serial == found.serial)
            reason = _NO_ANSWER.format(times) if times else ""
            connection.execute(
                sa.update(DELIVERY)
                .where(
                    DELIVERY.c.sop_instance_uid.in_(listed),
                    DELIVERY.c.destination == found.destination,
                    IS_STORED,
                )
                .values(due_at=at + wait_s, reason=reason)
            )

    def put_off(
        self,
        destination: str,
        uids: Iterable[str],
        *,
        reason: str,
        now: datetime,
        rng: random.Random,
    ) -> None:
        """Ask later: the destination did not take the question, or nobody knows whether."""
        with self._engine.begin() as connection:
            for uid in uids:
                _again(connection, uid, destination, {"reason": reason}, (now, rng))

    def refused(self, transaction_uid: str) -> None:
        """Forget a question that was refused: it has no answer."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(PROMISE).where(PROMISE.c.transaction_uid == transaction_uid)
            )

    def destination_of(self, transaction_uid: str) -> str | None:
        """Return who was asked in a transaction, None when it is not known, or is over."""
        with self._reads.connect() as connection:
            row = connection.execute(one(transaction_uid)).one_or_none()
        return None if row is None else str(row.destination)

    def settle(
        self,
        transaction_uid: str,
        kept: Iterable[str],
        refused: Mapping[str, Refusal],
        *,
        now: datetime,
        rng: random.Random,
    ) -> Settled:
        """Write down an answer; what it names and was not asked for stays as it is.

        Parameters
        ----------
        transaction_uid : str
        kept : iterable of str
            SOP Instance UIDs of what the destination committed to.
        refused : mapping of str to Refusal
            What it did not, by SOP Instance UID; it counts where both name an object.
        now : datetime
            Aware.
        rng : random.Random
            Source of the jitter.

        Returns
        -------
        Settled
            Of the objects that were stored; the same answer again finds none.
        """
        settled, committed = Settled(), set(kept)
        with self._engine.begin() as connection:
            for row in connection.execute(asked(transaction_uid)).all():
                uid, destination = row.sop_instance_uid, row.destination
                if uid in refused:
                    if row.serial == row.last:
                        state = _refuse(connection, row, refused[uid], (now, rng))
                        settled.refused.append(state)
                elif uid in committed:
                    _deliver(connection, is_row(uid, destination), now)
                    forget(connection, uid, destination)
                    settled.delivered.append(row.study_instance_uid)
        return settled

    def waive(self, destination: str, uids: Iterable[str], now: datetime) -> None:
        """Take what is stored as delivered: nobody asks for commitment there any more."""
        with self._engine.begin() as connection:
            for uid in uids:
                _deliver(connection, is_row(uid, destination) & IS_STORED, now)
                forget(connection, uid, destination)

    def ask_anew(self, destination: str | None, now: datetime) -> int:
        """Let all that is stored be due, whatever answers are waited for; return how many."""
        rows, questions = sa.update(DELIVERY).where(IS_STORED), sa.update(PROMISE)
        if destination is not None:
            rows = rows.where(DELIVERY.c.destination == destination)
            questions = questions.where(PROMISE.c.destination == destination)
        with self._engine.begin() as connection:
            connection.execute(questions.values(due_at=None))
            return connection.execute(rows.values(due_at=now.timestamp())).rowcount


_NO_ANSWER: Final = (
    "asked {} times without a report; let it know this node's AE title, host and port, "
    "and list its AE title under node.callers"
)


def _deliver(connection: sa.Connection, where: sa.ColumnElement[bool], now: datetime) -> None:
    connection.execute(
        sa.update(DELIVERY)
        .where(where)
        .values(state=DeliveryState.DELIVERED.value, reason="", changed_at=now.timestamp())
    )


def _refuse(
    connection: sa.Connection,
    row: sa.Row[Any],
    refusal: Refusal,
    clock: tuple[datetime, random.Random],
) -> DeliveryState:
    uid, state, reason = row.sop_instance_uid, refusal.state, refusal.reason
    if state is DeliveryState.WAITING and _is_superseded(connection, uid):
        state, reason = DeliveryState.WITHDRAWN, "a later version took its place"
    values = {"state": state.value, "status": refusal.status, "reason": reason}
    _again(connection, uid, row.destination, values, clock)
    if state is DeliveryState.STORED:
        connection.execute(
            sa.delete(PROMISED).where(
                PROMISED.c.serial == row.serial, PROMISED.c.sop_instance_uid == uid
            )
        )
    else:
        forget(connection, uid, row.destination)
    return state


def _again(
    connection: sa.Connection,
    uid: str,
    destination: str,
    values: Mapping[str, object],
    clock: tuple[datetime, random.Random],
) -> None:
    """Change a row that is stored; its next time comes later after each attempt."""
    now, rng = clock
    where = is_row(uid, destination) & IS_STORED
    attempts = connection.scalar(sa.select(DELIVERY.c.attempts).where(where))
    if attempts is None:
        return
    connection.execute(
        sa.update(DELIVERY)
        .where(where)
        .values(
            **values,
            attempts=attempts + 1,
            # the attempt that stored it was no failure
            due_at=now.timestamp() + retry_delay_s(attempts - 1, rng),
            changed_at=now.timestamp(),
        )
    )


def _is_superseded(connection: sa.Connection, uid: str) -> bool:
    """Whether more was said since of the image of a result, or of the stills of its series."""
    version = sa.func.coalesce(VERSION.c.version, 1)
    versions = RESULT.outerjoin(VERSION, HAS_VERSION)
    own = connection.execute(
        sa.select(
            RESULT.c.source_sop_instance_uid,
            VERSION.c.series_instance_uid,
            version.label("version"),
        )
        .select_from(versions)
        .where(RESULT.c.sop_instance_uid == uid)
    ).one()
    if own.source_sop_instance_uid:
        same = RESULT.c.source_sop_instance_uid == own.source_sop_instance_uid
    else:  # merged of several
        same = VERSION.c.series_instance_uid == own.series_instance_uid
    later = (
        sa.select(RESULT.c.sop_instance_uid)
        .select_from(versions)
        .where(same, version > own.version, sa.not_(IS_SHADOW))
        .limit(1)
    )
    return connection.execute(later).first() is not None

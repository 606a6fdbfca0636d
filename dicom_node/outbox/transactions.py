"""The questions after commitment as tables (PS3.4 J).

A row of ``promise`` is one question, a transaction; ``promised`` lists its objects. The transaction
is written before the question leaves, so that an answer that comes at once finds it, and after
kill -9 as well. An object may stand in several: who asks anew still believes an earlier yes. Of the
noes the last question's counts alone. When an object is no more in question its rows go.
"""

from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.tables import DELIVERY, METADATA, RESULT

PROMISE: Final = sa.Table(
    "promise",
    METADATA,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("transaction_uid", sa.String, nullable=False, unique=True),
    sa.Column("destination", sa.String, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    # until when the answer is waited for; null until the destination took the question
    sa.Column("due_at", sa.Float),
    # a later question has a higher serial, also when earlier ones are gone
    sqlite_autoincrement=True,
)
PROMISED: Final = sa.Table(
    "promised",
    METADATA,
    sa.Column("serial", sa.ForeignKey(PROMISE.c[0], ondelete="CASCADE"), primary_key=True),
    sa.Column("sop_instance_uid", sa.String, primary_key=True, index=True),
)
IS_STORED: Final = DELIVERY.c.state == DeliveryState.STORED


def is_unasked(now: datetime) -> sa.ColumnElement[bool]:
    """Tell the rows of ``delivery`` whose commitment has to be asked for."""
    is_waited_for = (
        sa.select(PROMISED.c.serial)
        .select_from(PROMISED.join(PROMISE))
        .where(
            PROMISED.c.sop_instance_uid == DELIVERY.c.sop_instance_uid,
            PROMISE.c.destination == DELIVERY.c.destination,
            PROMISE.c.due_at > now.timestamp(),
        )
        .correlate(DELIVERY)
        .exists()
    )
    return sa.and_(IS_STORED, sa.not_(is_waited_for))


def is_row(uid: str, destination: str) -> sa.ColumnElement[bool]:
    """Tell the row of an object and a destination."""
    return sa.and_(DELIVERY.c.sop_instance_uid == uid, DELIVERY.c.destination == destination)


def one(transaction_uid: str) -> sa.Select[Any]:
    """Ask for a transaction."""
    return sa.select(PROMISE).where(PROMISE.c.transaction_uid == transaction_uid)


def unanswered(serial: int, destination: str) -> sa.Select[Any]:
    """Ask how many earlier questions after the same objects were taken."""
    same = sa.select(PROMISED.c.sop_instance_uid).where(PROMISED.c.serial == serial)
    return (
        sa.select(sa.func.count(PROMISE.c.serial.distinct()))
        .select_from(PROMISE.join(PROMISED))
        .where(
            PROMISE.c.destination == destination,
            PROMISE.c.serial < serial,
            PROMISE.c.due_at.is_not(None),
            PROMISED.c.sop_instance_uid.in_(same),
        )
    )


def asked(transaction_uid: str) -> sa.Select[Any]:
    """Ask for what is stored and stands in a transaction, each with its last question."""
    others, questions = PROMISED.alias(), PROMISE.alias()
    last = (
        sa.select(sa.func.max(questions.c.serial))
        .select_from(others.join(questions))
        .where(
            others.c.sop_instance_uid == PROMISED.c.sop_instance_uid,
            questions.c.destination == PROMISE.c.destination,
        )
        .correlate(PROMISED, PROMISE)
        .scalar_subquery()
    )
    return (
        sa.select(
            PROMISE.c.serial,
            PROMISE.c.destination,
            PROMISED.c.sop_instance_uid,
            RESULT.c.study_instance_uid,
            last.label("last"),
        )
        .select_from(PROMISE.join(PROMISED))
        .join(DELIVERY, _is_listed())
        .join(RESULT, RESULT.c.sop_instance_uid == DELIVERY.c.sop_instance_uid)
        .where(PROMISE.c.transaction_uid == transaction_uid, IS_STORED)
    )


def _is_listed() -> sa.ColumnElement[bool]:
    return sa.and_(
        DELIVERY.c.sop_instance_uid == PROMISED.c.sop_instance_uid,
        DELIVERY.c.destination == PROMISE.c.destination,
    )


def forget(connection: sa.Connection, uid: str, destination: str) -> None:
    """Take an object out of every question, and with its last object the question."""
    asked = sa.select(PROMISE.c.serial).where(PROMISE.c.destination == destination)
    of_it = sa.and_(PROMISED.c.sop_instance_uid == uid, PROMISED.c.serial.in_(asked))
    serials = connection.scalars(sa.select(PROMISED.c.serial).where(of_it)).all()
    if not serials:
        return
    connection.execute(sa.delete(PROMISED).where(of_it))
    connection.execute(
        sa.delete(PROMISE).where(
            PROMISE.c.serial.in_(serials),
            PROMISE.c.serial.not_in(sa.select(PROMISED.c.serial)),
        )
    )

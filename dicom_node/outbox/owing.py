"""How an object comes to be owed to a destination, and ceases to be."""

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.tables import DELIVERY


def owe(
    connection: sa.Connection,
    sop_instance_uid: str,
    destination: str,
    at: float,
    *,
    hold_s: float = 0.0,
) -> None:
    """Let a destination be owed an object, unless it was owed it already.

    For `hold_s` it waits for what goes with it.
    """
    waiting = insert(DELIVERY).values(
        sop_instance_uid=sop_instance_uid,
        destination=destination,
        state=DeliveryState.WAITING.value,
        attempts=0,
        due_at=at + hold_s,
        reason="",
        changed_at=at,
    )
    connection.execute(waiting.on_conflict_do_nothing())


def withdraw(connection: sa.Connection, which: sa.ColumnElement[bool], at: float) -> None:
    """Send no more of what waits, or was given up, among some rows of ``delivery``."""
    connection.execute(
        sa.update(DELIVERY)
        .where(
            which,
            DELIVERY.c.state.in_([DeliveryState.WAITING.value, DeliveryState.DEAD.value]),
        )
        .values(
            state=DeliveryState.WITHDRAWN.value,
            reason="a later version took its place",
            changed_at=at,
        )
    )

"""What takes the place of an object that a destination does not accept."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.capabilities import CAPABILITY
from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.tables import DELIVERY, RESULT, VERSION
from dicom_node.outbox.versions import HAS_VERSION


def take_place(
    connection: sa.Connection, uid: str, destination: str, kinds: Sequence[str], at: float
) -> bool:
    """Owe the first of `kinds` that was written of the same image and is not refused.

    Returns
    -------
    bool
        Whether there is one; the refused object is withdrawn then.
    """
    refused = sa.select(CAPABILITY.c.sop_class_uid).where(
        CAPABILITY.c.destination == destination, CAPABILITY.c.accepted.is_(False)
    )
    version = sa.func.coalesce(VERSION.c.version, 1)
    versions = RESULT.outerjoin(VERSION, HAS_VERSION)
    own = connection.execute(
        sa.select(RESULT.c.kind, RESULT.c.source_sop_instance_uid, version.label("version"))
        .select_from(versions)
        .where(RESULT.c.sop_instance_uid == uid)
    ).one()
    found = {
        row.kind: row.sop_instance_uid
        for row in connection.execute(
            sa.select(RESULT.c.kind, RESULT.c.sop_instance_uid)
            .select_from(versions)
            .where(
                RESULT.c.source_sop_instance_uid == own.source_sop_instance_uid,
                version == own.version,
                RESULT.c.sop_class_uid.not_in(refused),
            )
        )
    }
    place = next((kind for kind in kinds if kind in found), None)
    if place is None:
        return False
    waiting = insert(DELIVERY).values(
        sop_instance_uid=found[place],
        destination=destination,
        state=DeliveryState.WAITING.value,
        attempts=0,
        due_at=at,
        reason="",
        changed_at=at,
    )
    connection.execute(waiting.on_conflict_do_nothing())
    connection.execute(
        sa.update(DELIVERY)
        .where(DELIVERY.c.sop_instance_uid == uid, DELIVERY.c.destination == destination)
        .values(
            state=DeliveryState.WITHDRAWN.value,
            attempts=DELIVERY.c.attempts + 1,
            reason=f"{own.kind.upper()} is not accepted; {place.upper()} takes its place",
            changed_at=at,
        )
    )
    return True

"""What takes the place of an object that a destination does not accept."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from dicom_node.outbox.capabilities import CAPABILITY
from dicom_node.outbox.owing import owe
from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.stills import MERGED
from dicom_node.outbox.tables import DELIVERY, RESULT, VERSION
from dicom_node.outbox.versions import HAS_VERSION


def take_place(
    connection: sa.Connection, uid: str, destination: str, kinds: Sequence[str], at: float
) -> bool:
    """Owe the first of `kinds` that was written of the same image and is not refused.

    Of an object of several images one for each of them.

    Returns
    -------
    bool
        Whether there is one of every image; the refused object is withdrawn then.
    """
    refused = sa.select(CAPABILITY.c.sop_class_uid).where(
        CAPABILITY.c.destination == destination, CAPABILITY.c.accepted.is_(False)
    )
    kind = connection.scalar(sa.select(RESULT.c.kind).where(RESULT.c.sop_instance_uid == uid))
    places = [
        next(((rung, found[rung]) for rung in kinds if rung in found), None)
        for found in _written(connection, uid, refused)
    ]
    for place in places:
        if place is not None:
            owe(connection, place[1], destination, at)
    if None in places:
        return False
    rungs = sorted({place[0].upper() for place in places if place is not None})
    told = f"{' and '.join(rungs)} {'takes' if len(rungs) == 1 else 'take'} its place"
    connection.execute(
        sa.update(DELIVERY)
        .where(DELIVERY.c.sop_instance_uid == uid, DELIVERY.c.destination == destination)
        .values(
            state=DeliveryState.WITHDRAWN.value,
            attempts=DELIVERY.c.attempts + 1,
            reason=f"{str(kind).upper()} is not accepted; {told}",
            changed_at=at,
        )
    )
    return True


def _written(
    connection: sa.Connection, uid: str, refused: sa.Select[tuple[str]]
) -> Iterator[dict[str, str]]:
    """Yield for each image that an object speaks of what was written with it: kind to UID."""
    parts = sa.select(MERGED.c.part_uid).where(MERGED.c.sop_instance_uid == uid)
    version = sa.func.coalesce(VERSION.c.version, 1)
    results = RESULT.outerjoin(VERSION, HAS_VERSION)
    images = connection.execute(
        sa.select(RESULT.c.source_sop_instance_uid, version.label("version"))
        .select_from(results)
        .where(RESULT.c.sop_instance_uid.in_(connection.scalars(parts).all() or [uid]))
    ).all()
    for image in images:
        query = (
            sa.select(RESULT.c.kind, RESULT.c.sop_instance_uid)
            .select_from(results)
            .where(
                RESULT.c.source_sop_instance_uid == image.source_sop_instance_uid,
                version == image.version,
                RESULT.c.sop_class_uid.not_in(refused),
            )
        )
        yield {row.kind: row.sop_instance_uid for row in connection.execute(query)}

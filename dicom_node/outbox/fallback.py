"""What takes the place of an object that a destination does not take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.outbox.capabilities import CAPABILITY
from dicom_node.outbox.owing import owe
from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.stills import MERGED
from dicom_node.outbox.tables import DELIVERY, RESULT, VERSION
from dicom_node.outbox.versions import HAS_VERSION


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """What was written of one image beside an object that speaks of it."""

    source_sop_instance_uid: str
    version: int
    #: kind -> SOP Instance UID of what a destination may take
    there: Mapping[str, str]
    #: kinds that it refused
    refused: frozenset[str]

    def first(self, kinds: Sequence[str]) -> tuple[str, str] | None:
        """Return the first of `kinds` that is there, and its SOP Instance UID."""
        return next(((kind, self.there[kind]) for kind in kinds if kind in self.there), None)


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
    kind = connection.scalar(sa.select(RESULT.c.kind).where(RESULT.c.sop_instance_uid == uid))
    places = [rungs.first(kinds) for rungs in rungs_of(connection, uid, destination)]
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


def rungs_of(connection: sa.Connection, uid: str, destination: str) -> Iterator[Rungs]:
    """Yield what was written with an object, for each image that it speaks of."""
    parts = sa.select(MERGED.c.part_uid).where(MERGED.c.sop_instance_uid == uid)
    version = sa.func.coalesce(VERSION.c.version, 1)
    results = RESULT.outerjoin(VERSION, HAS_VERSION)
    images = connection.execute(
        sa.select(RESULT.c.source_sop_instance_uid, version.label("version"))
        .select_from(results)
        .where(RESULT.c.sop_instance_uid.in_(connection.scalars(parts).all() or [uid]))
    ).all()
    is_refused = sa.or_(
        RESULT.c.sop_instance_uid == uid, _of_refused_class(destination), _sent_in_vain(destination)
    )
    for image in images:
        query = (
            sa.select(RESULT.c.kind, RESULT.c.sop_instance_uid, is_refused.label("is_refused"))
            .select_from(results)
            .where(
                RESULT.c.source_sop_instance_uid == image.source_sop_instance_uid,
                version == image.version,
            )
        )
        written = connection.execute(query).all()
        yield Rungs(
            source_sop_instance_uid=image.source_sop_instance_uid,
            version=image.version,
            there={row.kind: row.sop_instance_uid for row in written if not row.is_refused},
            refused=frozenset(row.kind for row in written if row.is_refused),
        )


def _of_refused_class(destination: str) -> sa.ColumnElement[bool]:
    refused: sa.Select[Any] = sa.select(CAPABILITY.c.sop_class_uid).where(
        CAPABILITY.c.destination == destination, CAPABILITY.c.accepted.is_(False)
    )
    return RESULT.c.sop_class_uid.in_(refused)


def _sent_in_vain(destination: str) -> sa.ColumnElement[bool]:
    """Tell the results that a destination was owed, and that it will not get as they are."""
    return sa.exists().where(
        DELIVERY.c.sop_instance_uid == RESULT.c.sop_instance_uid,
        DELIVERY.c.destination == destination,
        DELIVERY.c.state.in_([DeliveryState.DEAD.value, DeliveryState.WITHDRAWN.value]),
    )

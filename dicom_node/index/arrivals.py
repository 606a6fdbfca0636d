"""What an arrival does to the tables of studies and series."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.index.batches import batches
from dicom_node.index.moments import to_us
from dicom_node.index.rows import Arrival, Outcome, StudyState
from dicom_node.index.tables import FRESH, INSTANCE, OPENING, SERIES, STUDY
from dicom_node.records import Instance
from dicom_node.sop_classes import ULTRASOUND_IMAGES


def outcome_of(identity: tuple[str, str], known: tuple[str, str]) -> Outcome:
    """Compare (file id, SHA-256) of an arrival with those of the row of its UID."""
    if identity[0] == known[0]:
        return Outcome.NEW
    return Outcome.DUPLICATE if identity[1] == known[1] else Outcome.CONFLICT


def identities(connection: sa.Connection, uids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return (file id, SHA-256) of those of some SOP Instance UIDs that are registered."""
    known: dict[str, tuple[str, str]] = {}
    for batch in batches(uids):
        query = sa.select(INSTANCE.c.sop_instance_uid, INSTANCE.c.file_id, INSTANCE.c.sha256).where(
            INSTANCE.c.sop_instance_uid.in_(batch)
        )
        known.update({uid: (file_id, sha256) for uid, file_id, sha256 in connection.execute(query)})
    return known


def touch_studies(connection: sa.Connection, arrivals: Sequence[Arrival]) -> None:
    """Write the studies and series of new instances; an ultrasound image opens its study."""
    for opens in (True, False):
        of_kind = [a for a in arrivals if (a.instance.sop_class_uid in ULTRASOUND_IMAGES) is opens]
        if of_kind:
            connection.execute(_touch(opens), [_study_values(arrival) for arrival in of_kind])
    series = {(a.instance.study_instance_uid, a.instance.series_instance_uid) for a in arrivals}
    keys = [key.name for key in SERIES.c]
    connection.execute(
        insert(SERIES).on_conflict_do_nothing(),
        [dict(zip(keys, pair, strict=True)) for pair in sorted(series)],
    )


def note_new(connection: sa.Connection, instances: Sequence[Instance]) -> None:
    """Write down what is new in the open ones among the studies of these instances."""
    studies = sorted({instance.study_instance_uid for instance in instances})
    are_open: set[str] = set()
    for batch in batches(studies):
        query = sa.select(STUDY.c.study_instance_uid).where(
            STUDY.c.study_instance_uid.in_(batch), STUDY.c.state == StudyState.OPEN
        )
        are_open.update(connection.scalars(query))
    new = [instance for instance in instances if instance.study_instance_uid in are_open]
    if not new:
        return
    opening = insert(OPENING)
    first_us = sa.func.min(OPENING.c.first_us, opening.excluded.first_us)
    connection.execute(
        opening.on_conflict_do_update(index_elements=[OPENING.c[0]], set_={"first_us": first_us}),
        [
            {"study_instance_uid": i.study_instance_uid, "first_us": to_us(i.received_at)}
            for i in new
        ],
    )
    connection.execute(
        insert(FRESH).on_conflict_do_nothing(),
        [
            {"sop_instance_uid": i.sop_instance_uid, "study_instance_uid": i.study_instance_uid}
            for i in new
        ],
    )


def _touch(opens: bool) -> sa.Insert:
    """Return what is executed for each of many: a statement of its own costs more than its row."""
    study = insert(STUDY)
    first, last = STUDY.c.first_received_us, STUDY.c.last_received_us
    changes: dict[str, Any] = {
        "first_received_us": sa.func.min(first, study.excluded.first_received_us),
        "last_received_us": sa.func.max(last, study.excluded.last_received_us),
    }
    if opens:
        changes["state"] = study.excluded.state
    return study.on_conflict_do_update(index_elements=[STUDY.c[0]], set_=changes)


def _study_values(arrival: Arrival) -> dict[str, Any]:
    received_us = to_us(arrival.instance.received_at)
    return {
        "study_instance_uid": arrival.instance.study_instance_uid,
        "patient_id": arrival.patient_id,
        "state": StudyState.OPEN,
        "revision": 0,
        "finished": 0,
        "first_received_us": received_us,
        "last_received_us": received_us,
        "reason": "",
        "evidence": {},
    }

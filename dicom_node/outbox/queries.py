"""The questions that the outbox answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dicom_node.outbox.outages import held_back
from dicom_node.outbox.rows import UNSETTLED, DeliveryState, Errand
from dicom_node.outbox.tables import DELIVERY, ERRAND, RESULT, VERSION
from dicom_node.outbox.transactions import is_unasked
from dicom_node.outbox.versions import HAS_VERSION, VERSIONS, results_with_versions


def due_errands(now: datetime) -> sa.Select[Any]:
    """Ask for the fields of `Errand` whose time has come, the longest waiting first.

    What a destination is owed that is down waits until one of them may find out.
    """
    study, name = RESULT.c.study_instance_uid, DELIVERY.c.destination
    handed_out = sa.and_(ERRAND.c.study_instance_uid == study, ERRAND.c.destination == name)
    return (
        sa.select(study, name, sa.func.coalesce(sa.func.max(ERRAND.c.lease), 0).label("lease"))
        .select_from(DELIVERY.join(RESULT).outerjoin(ERRAND, handed_out))
        .where(DELIVERY.c.state.in_(UNSETTLED))
        .where(DELIVERY.c.due_at <= now.timestamp())
        .where(name.not_in(held_back(now)))
        .group_by(study, name)
        .order_by(sa.func.min(DELIVERY.c.due_at))
    )


def owed_studies() -> sa.Select[Any]:
    """Ask for the studies of which something waits to be delivered, or for its commitment."""
    return (
        sa.select(RESULT.c.study_instance_uid)
        .distinct()
        .select_from(DELIVERY.join(RESULT))
        .where(DELIVERY.c.state.in_(UNSETTLED))
    )


def is_owed(errand: Errand) -> sa.ColumnElement[bool]:
    """Tell the rows of ``delivery`` whose objects an errand has to send."""
    return sa.and_(_is_of(errand), DELIVERY.c.state == DeliveryState.WAITING)


def is_due(errand: Errand, now: datetime) -> sa.ColumnElement[bool]:
    """Tell the rows for which an errand is handed out."""
    return sa.and_(
        _is_of(errand), DELIVERY.c.state.in_(UNSETTLED), DELIVERY.c.due_at <= now.timestamp()
    )


def is_to_do(errand: Errand, now: datetime) -> sa.ColumnElement[bool]:
    """Tell the rows that an errand sends, or asks the commitment of."""
    return sa.and_(
        _is_of(errand), sa.or_(DELIVERY.c.state == DeliveryState.WAITING, is_unasked(now))
    )


def _is_of(errand: Errand) -> sa.ColumnElement[bool]:
    in_study = sa.select(RESULT.c.sop_instance_uid).where(
        RESULT.c.study_instance_uid == errand.study_instance_uid
    )
    return sa.and_(
        DELIVERY.c.destination == errand.destination, DELIVERY.c.sop_instance_uid.in_(in_study)
    )


def owed_results(errand: Errand) -> sa.Select[Any]:
    """Ask for the results that are still owed, SEG before the SR on them."""
    return (
        results_with_versions()
        .join(DELIVERY, DELIVERY.c.sop_instance_uid == RESULT.c.sop_instance_uid)
        .where(is_owed(errand))
        .order_by(RESULT.c.kind, RESULT.c.sop_instance_uid)
    )


def unasked_results(errand: Errand, now: datetime) -> sa.Select[Any]:
    """Ask for the results that are stored, and whose commitment has to be asked for."""
    return (
        results_with_versions()
        .join(DELIVERY, DELIVERY.c.sop_instance_uid == RESULT.c.sop_instance_uid)
        .where(_is_of(errand), is_unasked(now))
        .order_by(RESULT.c.kind, RESULT.c.sop_instance_uid)
    )


def delivered_results(study_instance_uid: str, destinations: Sequence[str]) -> sa.Select[Any]:
    """Ask for the SOP Instance UIDs of a study's results that these destinations have."""
    return (
        sa.select(DELIVERY.c.sop_instance_uid)
        .distinct()
        .select_from(DELIVERY.join(RESULT))
        .where(
            RESULT.c.study_instance_uid == study_instance_uid,
            DELIVERY.c.destination.in_(destinations),
            DELIVERY.c.state.in_([DeliveryState.DELIVERED, DeliveryState.STORED]),
        )
    )


def deliveries(states: Sequence[DeliveryState], study: str | None) -> sa.Select[Any]:
    """Ask for rows in these states (all when none is named), the latest change first."""
    query = (
        sa.select(DELIVERY, RESULT.c.study_instance_uid, RESULT.c.kind, *VERSIONS)
        .select_from(DELIVERY.join(RESULT).outerjoin(VERSION, HAS_VERSION))
        .order_by(DELIVERY.c.changed_at.desc())
    )
    if study is not None:
        query = query.where(RESULT.c.study_instance_uid == study)
    return query.where(DELIVERY.c.state.in_(states)) if states else query


def backlogs() -> sa.Select[Any]:
    """Ask how much each destination is owed, or was given up for it, and since when."""
    state, name = DELIVERY.c.state, DELIVERY.c.destination
    oldest = sa.func.min(RESULT.c.created_at).label("oldest_at")
    return (
        sa.select(state, name, sa.func.count().label("count"), oldest)
        .select_from(DELIVERY.join(RESULT))
        .where(state.in_([*UNSETTLED, DeliveryState.DEAD]))
        .group_by(state, name)
    )

"""The frozen records that the outbox hands out."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.records import Result, ResultKind


class DeliveryState(StrEnum):
    """Where one object stands with one destination."""

    WAITING = "waiting"
    #: it is there, and the destination has not committed to keep it yet
    STORED = "stored"
    DELIVERED = "delivered"
    DEAD = "dead"
    #: another object took its place: a later version before it was sent, or what is accepted
    WITHDRAWN = "withdrawn"


#: Rows with which the node is not done: the others change only by hand.
UNSETTLED: Final = (DeliveryState.WAITING, DeliveryState.STORED)


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
    #: as in `Result`
    version: int
    supersedes: str | None


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What one destination is owed, or was given up for it."""

    destination: str
    state: DeliveryState
    count: int
    oldest_at: datetime


def to_result(row: sa.Row[Any], folder: Path) -> Result:
    """Return the object of a row of ``result`` with its ``version``; its file lies in `folder`."""
    return Result(
        kind=ResultKind(row.kind),
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        study_instance_uid=row.study_instance_uid,
        source_sop_instance_uid=row.source_sop_instance_uid,
        path=folder / row.file_name,
        series_instance_uid=row.series_instance_uid or "",
        version=row.version or 1,
        supersedes=row.supersedes,
    )


def to_delivery(row: sa.Row[Any]) -> DeliveryRow:
    """Return the record of a row of ``delivery`` with its ``result`` and its ``version``."""
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
        version=row.version or 1,
        supersedes=row.supersedes,
    )


def to_backlog(row: sa.Row[Any]) -> Backlog:
    """Return the record of a row of `queries.backlogs`."""
    values = dict(row._mapping)
    return Backlog(
        destination=values["destination"],
        state=DeliveryState(values["state"]),
        count=values["count"],
        oldest_at=datetime.fromtimestamp(values["oldest_at"], UTC),
    )

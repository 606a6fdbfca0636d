"""The rows of studies, and of their completions."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from dicom_node.index.moments import from_us
from dicom_node.index.rows import CompletionRow, StudyRow, StudyState
from dicom_node.index.tables import COMPLETION, INSTANCE, STUDY


def study_rows() -> sa.Select[Any]:
    """Return the studies with the number of their instances."""
    count = (
        sa.select(sa.func.count())
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid)
        .scalar_subquery()
    )
    return sa.select(STUDY, count.label("instances"))


def uids_with(part: str) -> sa.Select[Any]:
    """Ask for the Study Instance UIDs that hold `part`, first the one that is it."""
    uid = STUDY.c.study_instance_uid
    return sa.select(uid).where(uid.contains(part, autoescape=True)).order_by(uid != part, uid)


def to_study(row: sa.Row[Any]) -> StudyRow:
    """Return the record of a row of `study_rows`."""
    return StudyRow(
        study_instance_uid=row.study_instance_uid,
        state=StudyState(row.state),
        revision=row.revision,
        finished=row.finished,
        instances=row.instances,
        first_received_at=from_us(row.first_received_us),
        last_received_at=from_us(row.last_received_us),
        completed_at=None if row.completed_us is None else from_us(row.completed_us),
        reason=row.reason,
        evidence=row.evidence,
    )


def note_completion(connection: sa.Connection, study_uid: str, values: Mapping[str, Any]) -> None:
    """Write a completion down, out of the values that its study gets."""
    columns = {column.name for column in COMPLETION.c}
    noted = {name: value for name, value in values.items() if name in columns}
    connection.execute(sa.insert(COMPLETION).values(study_instance_uid=study_uid, **noted))


def note_last_completions(connection: sa.Connection) -> None:
    """Write down the last completion of each study: those before it were not kept."""
    names = [column.name for column in COMPLETION.c]
    last = sa.select(*(STUDY.c[name] for name in names)).where(STUDY.c.completed_us.is_not(None))
    connection.execute(sa.insert(COMPLETION).from_select(names, last))


def completions(study_uid: str) -> sa.Select[Any]:
    """Ask for the completions of a study that were written down, in order."""
    of_study = COMPLETION.c.study_instance_uid == study_uid
    return sa.select(COMPLETION).where(of_study).order_by(COMPLETION.c.revision)


def to_completion(row: sa.Row[Any]) -> CompletionRow:
    """Return the record of a row of `completions`."""
    return CompletionRow(
        revision=row.revision,
        completed_at=from_us(row.completed_us),
        reason=row.reason,
        evidence=row.evidence,
    )

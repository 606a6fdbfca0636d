"""The rows of studies."""

from typing import Any

import sqlalchemy as sa

from dicom_node.index.moments import from_us
from dicom_node.index.rows import StudyRow, StudyState
from dicom_node.index.tables import INSTANCE, STUDY


def study_rows() -> sa.Select[Any]:
    """Return the studies with the number of their instances."""
    count = (
        sa.select(sa.func.count())
        .where(INSTANCE.c.study_instance_uid == STUDY.c.study_instance_uid)
        .scalar_subquery()
    )
    return sa.select(STUDY, count.label("instances"))


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

"""The reports that storage commitments are owed."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.index.batches import batches
from dicom_node.index.moments import from_us, to_us
from dicom_node.index.rows import CommitmentRow, CommitmentState
from dicom_node.index.tables import COMMITMENT, LISTED, SAID
from dicom_node.records import Reference

#: A report that was handed out and not heard of for so long is handed out again.
LEASE_S: Final = 600.0


class Commitments:
    """The commitments of a register; made by `Index`, filled by `Evidence.take`."""

    def __init__(self, engine: sa.Engine, reads: sa.Engine) -> None:
        self._engine, self._reads = engine, reads

    def due(self, now: datetime) -> list[CommitmentRow]:
        """Return the commitments whose report is owed now, the longest waiting first."""
        query = (
            _rows()
            .where(COMMITMENT.c.state == CommitmentState.WAITING, COMMITMENT.c.due_us <= to_us(now))
            .order_by(COMMITMENT.c.due_us, COMMITMENT.c.serial)
        )
        with self._reads.connect() as connection:
            return [_commitment(row) for row in connection.execute(query)]

    def lease(self, file_ids: Sequence[str], now: datetime) -> None:
        """Note that reports were handed out; they are due again only after `LEASE_S`."""
        due_us = to_us(now + timedelta(seconds=LEASE_S))
        self._change(file_ids, attempts=COMMITMENT.c.attempts + 1, due_us=due_us)

    def postpone(self, file_id: str, *, reason: str, due_at: datetime) -> None:
        """Report later."""
        self._change([file_id], reason=reason, due_us=to_us(due_at))

    def settle(self, file_id: str, state: CommitmentState, *, reason: str) -> None:
        """Note that there is no more to do."""
        self._change([file_id], state=state, reason=reason)

    def find(self, file_id: str) -> CommitmentRow | None:
        """Return one commitment, None when it was asked for anew or forgotten."""
        with self._reads.connect() as connection:
            row = connection.execute(_rows().where(SAID.c.file_id == file_id)).one_or_none()
        return None if row is None else _commitment(row)

    def references(self, file_id: str) -> list[Reference]:
        """Return the instances that a commitment lists."""
        query = (
            sa.select(LISTED.c.sop_class_uid, LISTED.c.sop_instance_uid)
            .select_from(LISTED.join(SAID))
            .where(SAID.c.file_id == file_id)
            .order_by(LISTED.c.sop_instance_uid)
        )
        with self._reads.connect() as connection:
            return [Reference(**row._mapping) for row in connection.execute(query)]

    def latest(self, limit: int, *states: CommitmentState) -> list[CommitmentRow]:
        """Return commitments in these states (all when none is named), the newest first."""
        query = _rows().order_by(SAID.c.serial.desc()).limit(limit)
        if states:
            query = query.where(COMMITMENT.c.state.in_(states))
        with self._reads.connect() as connection:
            return [_commitment(row) for row in connection.execute(query)]

    def counts(self) -> dict[CommitmentState, int]:
        """Return how many commitments are in each state; old ones are forgotten."""
        query = sa.select(COMMITMENT.c.state, sa.func.count()).group_by(COMMITMENT.c.state)
        with self._reads.connect() as connection:
            found = {CommitmentState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in CommitmentState}

    def _change(self, file_ids: Sequence[str], **values: Any) -> None:
        with self._engine.begin() as connection:
            for batch in batches(file_ids):
                serials = sa.select(SAID.c.serial).where(SAID.c.file_id.in_(batch))
                connection.execute(
                    sa.update(COMMITMENT)
                    .where(
                        COMMITMENT.c.serial.in_(serials),
                        COMMITMENT.c.state == CommitmentState.WAITING,
                    )
                    .values(**values)
                )


def _rows() -> sa.Select[Any]:
    instances = (
        sa.select(sa.func.count())
        .where(LISTED.c.serial == COMMITMENT.c.serial)
        .correlate(COMMITMENT)
        .scalar_subquery()
    )
    return sa.select(SAID, COMMITMENT, instances.label("instances")).select_from(
        COMMITMENT.join(SAID)
    )


def _commitment(row: sa.Row[Any]) -> CommitmentRow:
    return CommitmentRow(
        file_id=row.file_id,
        serial=row.serial,
        transaction_uid=row.uid,
        ae_title=row.ae_title,
        host=row.host,
        state=CommitmentState(row.state),
        attempts=row.attempts,
        instances=row.instances,
        received_at=from_us(row.received_us),
        reason=row.reason,
    )

"""Objects that were refused when nothing lay in reserve: what takes their place is to be drawn.

They are dead letters until then, and stay so where nothing can be drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.fallback import Rungs, rungs_of, take_place
from dicom_node.outbox.rows import DeliveryState
from dicom_node.outbox.tables import DELIVERY, METADATA, RESULT
from dicom_node.outbox.versions import note_result
from dicom_node.records import Result

LACKING: Final = sa.Table(
    "lacking",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("noted_at", sa.Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class LackingRow:
    """One object that a destination refused."""

    sop_instance_uid: str
    destination: str
    #: seconds since 1970
    noted_at: float


class Lacking:
    """What is to be drawn; made by `Outbox`."""

    def __init__(self, engine: sa.Engine, reads: sa.Engine) -> None:
        self._engine, self._reads = engine, reads

    def studies(self) -> dict[str, float]:
        """Return the studies in which something lacks, with the time of the last refusal."""
        query = (
            sa.select(RESULT.c.study_instance_uid, sa.func.max(LACKING.c.noted_at).label("at"))
            .select_from(LACKING.join(RESULT))
            .group_by(RESULT.c.study_instance_uid)
        )
        with self._reads.connect() as connection:
            return {row.study_instance_uid: row.at for row in connection.execute(query)}

    def of(self, study_instance_uid: str) -> list[LackingRow]:
        """Return what was refused of a study, in the order of time."""
        query = (
            sa.select(LACKING)
            .join(RESULT)
            .where(RESULT.c.study_instance_uid == study_instance_uid)
            .order_by(LACKING.c.noted_at, LACKING.c.sop_instance_uid, LACKING.c.destination)
        )
        with self._reads.connect() as connection:
            return [LackingRow(**row._mapping) for row in connection.execute(query)]

    def rungs(self, row: LackingRow) -> list[Rungs]:
        """Return what was written of each image; empty where its place needs nobody any more."""
        with self._reads.connect() as connection:
            if not connection.scalar(sa.select(_is_unsent(row))):
                return []
            return list(rungs_of(connection, row.sop_instance_uid, row.destination))

    def settle(
        self, row: LackingRow, drawn: Sequence[Result], kinds: Sequence[str], *, now: datetime
    ) -> bool:
        """Owe what was drawn in the place of the refused object; all or nothing.

        Parameters
        ----------
        row : LackingRow
        drawn : sequence of Result
            Objects that passed the gate, already durable on disk.
        kinds : sequence of str
            Kinds that may take its place, the best first.
        now : datetime
            Aware.

        Returns
        -------
        bool
            Whether its place is taken; else it stays what it is.
        """
        at = now.timestamp()
        uid, destination = row.sop_instance_uid, row.destination
        with self._engine.begin() as connection:
            for result in drawn:
                note_result(connection, result, at)
            is_unsent = connection.scalar(sa.select(_is_unsent(row)))
            is_taken = bool(is_unsent) and take_place(connection, uid, destination, kinds, at)
            connection.execute(
                sa.delete(LACKING).where(
                    LACKING.c.sop_instance_uid == uid,
                    LACKING.c.destination == destination,
                    # it was refused again meanwhile
                    LACKING.c.noted_at <= row.noted_at,
                )
            )
        return is_taken


def note_lacking(connection: sa.Connection, uid: str, destination: str, at: float) -> None:
    """Note that an object was refused when nothing lay in reserve."""
    row = insert(LACKING).values(sop_instance_uid=uid, destination=destination, noted_at=at)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=list(LACKING.primary_key), set_={"noted_at": row.excluded.noted_at}
        )
    )


def _is_unsent(row: LackingRow) -> sa.ColumnElement[Any]:
    """Tell whether a refused object was neither dropped nor sent nor replaced since."""
    return sa.exists().where(
        DELIVERY.c.sop_instance_uid == row.sop_instance_uid,
        DELIVERY.c.destination == row.destination,
        DELIVERY.c.state.in_([DeliveryState.WAITING.value, DeliveryState.DEAD.value]),
    )

"""Which SOP classes each destination accepts, as it answered last."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading
from dicom_node.outbox.tables import METADATA

CAPABILITY = sa.Table(
    "capability",
    METADATA,
    sa.Column("destination", sa.String, primary_key=True),
    sa.Column("sop_class_uid", sa.String, primary_key=True),
    # a destination that moved is asked anew
    sa.Column("address", sa.String, nullable=False),
    sa.Column("accepted", sa.Boolean, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class CapabilityRow:
    """One answer, as ``status`` shows it."""

    destination: str
    sop_class_uid: str
    accepted: bool
    asked_at: datetime


class Capabilities:
    """The answers of destinations; part of the outbox.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the outbox.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reads = for_reading(engine)

    def note(
        self, destination: str, address: str, answers: Mapping[str, bool], *, now: datetime
    ) -> None:
        """Keep what a destination answered; other answers of the same address stay.

        Parameters
        ----------
        destination : str
            Its name in the configuration.
        address : str
            Where it was asked.
        answers : mapping of str to bool
            Whether it accepts a SOP class.
        now : datetime
            Aware.
        """
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(CAPABILITY).where(
                    CAPABILITY.c.destination == destination, CAPABILITY.c.address != address
                )
            )
            for sop_class_uid, accepted in answers.items():
                answer = insert(CAPABILITY).values(
                    destination=destination,
                    sop_class_uid=sop_class_uid,
                    address=address,
                    accepted=accepted,
                    asked_at=now.timestamp(),
                )
                connection.execute(
                    answer.on_conflict_do_update(
                        index_elements=list(CAPABILITY.primary_key),
                        set_={
                            "accepted": answer.excluded.accepted,
                            "asked_at": answer.excluded.asked_at,
                        },
                    )
                )

    def of(self, destination: str, address: str) -> dict[str, bool]:
        """Return the answers of a destination at that address, by SOP class."""
        query = sa.select(CAPABILITY.c.sop_class_uid, CAPABILITY.c.accepted).where(
            CAPABILITY.c.destination == destination, CAPABILITY.c.address == address
        )
        with self._reads.connect() as connection:
            return {row.sop_class_uid: row.accepted for row in connection.execute(query)}

    def rows(self) -> list[CapabilityRow]:
        """Return every answer, by destination and class."""
        query = sa.select(CAPABILITY).order_by(CAPABILITY.c.destination, CAPABILITY.c.sop_class_uid)
        with self._reads.connect() as connection:
            return [
                CapabilityRow(
                    destination=row.destination,
                    sop_class_uid=row.sop_class_uid,
                    accepted=row.accepted,
                    asked_at=datetime.fromtimestamp(row.asked_at, UTC),
                )
                for row in connection.execute(query)
            ]

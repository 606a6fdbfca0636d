"""The outbox: rows in, errands out."""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.backoff import retry_delay_s
from dicom_node.database import for_reading, open_sqlite
from dicom_node.outbox import queries
from dicom_node.outbox.capabilities import Capabilities
from dicom_node.outbox.fallback import take_place
from dicom_node.outbox.lacking import Lacking, note_lacking
from dicom_node.outbox.outages import OUTAGE, Outages
from dicom_node.outbox.promises import LEASE_S, Promises
from dicom_node.outbox.rows import (
    Backlog,
    DeliveryRow,
    DeliveryState,
    Errand,
    to_backlog,
    to_delivery,
    to_result,
)
from dicom_node.outbox.shadow import (
    IS_SHADOW,
    SHADOW,
    note_shadow,
    shadow_models,
    shadow_pairs,
    shadow_results,
)
from dicom_node.outbox.stills import Stills, note_owed, note_part
from dicom_node.outbox.tables import ANALYSED, DELIVERY, ERRAND, METADATA, RESULT
from dicom_node.outbox.tally import TALLY
from dicom_node.outbox.trail import Trail
from dicom_node.outbox.versions import (
    note_analysed,
    note_result,
    results_with_versions,
    withdraw_before,
)
from dicom_node.records import Edition, Result


class Outbox:
    """The durable outbox.

    Parameters
    ----------
    path : Path
        SQLite file, made when absent.
    results : Path
        Folder of the objects; rows keep only file names, so the data folder may move.
    """

    def __init__(self, path: Path, results: Path) -> None:
        self._engine = open_sqlite(path, METADATA)
        for index in RESULT.indexes:  # tables of a former program lack one
            index.create(self._engine, checkfirst=True)
        self._reads = for_reading(self._engine)
        self._results = results
        self.outages = Outages(self._engine, self._reads)
        #: what became of each image
        self.trail = Trail(self._engine, self._reads)
        #: SEGs of stills, and what they were merged into
        self.stills = Stills(self._engine, self._reads, results)
        #: what the destinations accept
        self.capabilities = Capabilities(self._engine)
        #: what the destinations were asked to commit to
        self.promises = Promises(self._engine)
        #: what was refused when nothing lay in reserve
        self.lacking = Lacking(self._engine, self._reads)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def add(
        self,
        results: Sequence[Result],
        owed: Iterable[tuple[Result, str]],
        *,
        analysed: str,
        models: str,
        now: datetime,
    ) -> None:
        """Record that `analysed` was analysed by `models`, with what is owed to whom.

        Everything or nothing; the same call again changes nothing. What is still owed of earlier
        results of the image is withdrawn: these take their place. The SEG of a still is promised
        only: `stills` owes what it is merged into, and lets go what waits for that.

        Parameters
        ----------
        results : sequence of Result
            Objects that passed the gate, already durable on disk.
        owed : iterable of (Result, str)
            Pairs of object and destination name.
        analysed : str
            SOP Instance UID of the image.
        models : str
            Fingerprint of the models that were asked, and of the bytes that they saw.
        now : datetime
            Aware.
        """
        at = now.timestamp()
        with self._engine.begin() as connection:
            for result in results:
                note_result(connection, result, at)
                note_part(connection, result)
            note_owed(connection, list(owed), at)
            version = max((result.version for result in results), default=1)
            withdraw_before(connection, analysed, version, at)
            note_analysed(connection, analysed, models, at)

    def add_shadow(
        self, results: Sequence[Result], *, analysed: str, models: str, now: datetime
    ) -> None:
        """Record what models in the shadow said; as `add`, owed to nobody."""
        with self._engine.begin() as connection:
            for result in results:
                note_result(connection, result, now.timestamp())
            note_shadow(connection, results, analysed, models)

    def shadow_results(self, study_instance_uid: str) -> list[Result]:
        """Return what models in the shadow said of a study."""
        with self._reads.connect() as connection:
            rows = connection.execute(shadow_results(study_instance_uid))
            return [to_result(row, self._results) for row in rows]

    def shadow_pairs(self, most: int) -> list[tuple[Result, Result]]:
        """Return the last reports of the shadow, each with the one that serves of its image."""
        with self._reads.connect() as connection:
            pairs = shadow_pairs(connection, most)
        return [
            (to_result(one, self._results), to_result(other, self._results)) for one, other in pairs
        ]

    def shadow_count(self) -> int:
        """Return how many results are kept for nobody."""
        with self._reads.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(SHADOW)) or 0

    def is_analysed(self, sop_instance_uid: str, models: str, *, shadow: bool = False) -> bool:
        """Whether these models spoke of this image last; `models` as in `add`."""
        if shadow:
            with self._reads.connect() as connection:
                return shadow_models(connection, sop_instance_uid) == models
        latest = (
            sa.select(ANALYSED.c.models)
            .where(ANALYSED.c.sop_instance_uid == sop_instance_uid)
            .order_by(ANALYSED.c.analysed_at.desc())
            .limit(1)
        )
        with self._reads.connect() as connection:
            return connection.scalar(latest) == models

    def next_edition(
        self, sop_instance_uid: str, *, study_revision: int, shadow: bool = False
    ) -> Edition:
        """Return which results of an image come next; the same until they are added."""
        query = results_with_versions().where(
            RESULT.c.source_sop_instance_uid == sop_instance_uid,
            IS_SHADOW if shadow else sa.not_(IS_SHADOW),
        )
        with self._reads.connect() as connection:
            earlier = [to_result(row, self._results) for row in connection.execute(query)]
        version = max((result.version for result in earlier), default=0)
        return Edition(
            version=version + 1,
            study_revision=study_revision,
            # those of a former program stand in series that nobody wrote down
            predecessors=tuple(
                result
                for result in earlier
                if result.version == version and result.series_instance_uid
            ),
            is_shadow=shadow,
        )

    def due(self, now: datetime) -> list[Errand]:
        """Return the errands whose time has come, the longest waiting first."""
        with self._reads.connect() as connection:
            rows = connection.execute(queries.due_errands(now))
            return [Errand(**row._mapping) for row in rows]

    def owed_studies(self) -> set[str]:
        """Return the studies of which something waits to be delivered."""
        with self._reads.connect() as connection:
            return set(connection.scalars(queries.owed_studies()))

    def lease(self, errand: Errand, now: datetime) -> None:
        """Note that `errand` was handed out; it is due again only after `LEASE_S`."""
        counted = {
            "study_instance_uid": errand.study_instance_uid,
            "destination": errand.destination,
            "lease": errand.lease + 1,
        }
        upsert = insert(ERRAND).values(counted)
        with self._engine.begin() as connection:
            connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=[
                        ERRAND.c.study_instance_uid,
                        ERRAND.c.destination,
                    ],
                    set_={"lease": upsert.excluded.lease},
                )
            )
            connection.execute(
                sa.update(DELIVERY)
                .where(queries.is_due(errand, now))
                .values(due_at=now.timestamp() + LEASE_S)
            )

    def put_back(self, errand: Errand, now: datetime) -> None:
        """Let an errand that was handed out in vain be due at once."""
        change = sa.update(DELIVERY).where(queries.is_to_do(errand, now))
        self._count(change.values(due_at=now.timestamp()))

    def waiting(self, errand: Errand) -> list[Result]:
        """Return the objects of an errand that are still owed, SEG before the SR on them."""
        with self._reads.connect() as connection:
            rows = connection.execute(queries.owed_results(errand))
            return [to_result(row, self._results) for row in rows]

    def unasked(self, errand: Errand, now: datetime) -> list[Result]:
        """Return the objects of an errand that are stored, with no answer to wait for."""
        with self._reads.connect() as connection:
            rows = connection.execute(queries.unasked_results(errand, now))
            return [to_result(row, self._results) for row in rows]

    def delivered(
        self, sop_instance_uid: str, destination: str, *, status: int, now: datetime
    ) -> None:
        """Note that the destination has it."""
        self._change(
            sop_instance_uid,
            destination,
            state=DeliveryState.DELIVERED.value,
            attempts=DELIVERY.c.attempts + 1,
            status=status,
            reason="",
            changed_at=now.timestamp(),
        )

    def postpone(
        self,
        sop_instance_uid: str,
        destination: str,
        *,
        status: int | None,
        reason: str,
        now: datetime,
        rng: random.Random,
    ) -> None:
        """Try again later, for ever: a PACS may be down for days."""
        with self._engine.begin() as connection:
            where = _row(sop_instance_uid, destination)
            attempts = connection.scalar(sa.select(DELIVERY.c.attempts).where(where)) or 0
            connection.execute(
                sa.update(DELIVERY)
                .where(where, DELIVERY.c.state == DeliveryState.WAITING)
                .values(
                    attempts=attempts + 1,
                    due_at=now.timestamp() + retry_delay_s(attempts, rng),
                    status=status,
                    reason=reason,
                    changed_at=now.timestamp(),
                )
            )

    def bury(
        self,
        sop_instance_uid: str,
        destination: str,
        *,
        status: int | None,
        reason: str,
        now: datetime,
    ) -> None:
        """Make it a dead letter: it will never work as it is, until somebody retries it."""
        self._change(
            sop_instance_uid,
            destination,
            unless=DeliveryState.WITHDRAWN,
            state=DeliveryState.DEAD.value,
            attempts=DELIVERY.c.attempts + 1,
            status=status,
            reason=reason,
            changed_at=now.timestamp(),
        )

    def replace(
        self, sop_instance_uid: str, destination: str, kinds: Sequence[str], *, now: datetime
    ) -> bool:
        """Owe another object in the place of one that the destination does not take.

        Where there is none `lacking` has it, and one is drawn later.

        Parameters
        ----------
        sop_instance_uid : str
            The refused object.
        destination : str
            Its name.
        kinds : sequence of str
            Kinds that may take its place, the best first.
        now : datetime
            Aware.

        Returns
        -------
        bool
            Whether one was there.
        """
        at = now.timestamp()
        with self._engine.begin() as connection:
            is_taken = take_place(connection, sop_instance_uid, destination, kinds, at)
            if kinds and not is_taken:
                note_lacking(connection, sop_instance_uid, destination, at)
        return is_taken

    def delivered_to(self, study_instance_uid: str, destinations: Sequence[str]) -> list[str]:
        """Return the SOP Instance UIDs of a study's results that these destinations have."""
        query = queries.delivered_results(study_instance_uid, destinations)
        with self._reads.connect() as connection:
            return list(connection.scalars(query))

    def rows(
        self,
        *states: DeliveryState,
        study: str | None = None,
        destination: str | None = None,
        limit: int = 1000,
    ) -> list[DeliveryRow]:
        """Return rows in these states (all when none is named), the latest change first."""
        query = queries.deliveries(states, study).limit(limit)
        if destination is not None:
            query = query.where(DELIVERY.c.destination == destination)
        with self._reads.connect() as connection:
            return [to_delivery(row) for row in connection.execute(query)]

    def counts(self) -> dict[DeliveryState, int]:
        """Return how many rows are in each state."""
        query = sa.select(TALLY.c.state, TALLY.c.count)
        with self._reads.connect() as connection:
            found = {DeliveryState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in DeliveryState}

    def backlogs(self) -> list[Backlog]:
        """Return how much is owed to, and was given up for, each destination."""
        with self._reads.connect() as connection:
            return [to_backlog(row) for row in connection.execute(queries.backlogs())]

    def retry(self, *, now: datetime, destination: str | None = None) -> int:
        """Make every row that is not done due at once, whoever is down; returns how many.

        Of what is stored the commitment is asked for anew.
        """
        forgotten = sa.delete(OUTAGE)
        if destination is not None:
            forgotten = forgotten.where(OUTAGE.c.destination == destination)
        self._count(forgotten)
        asked = self.promises.ask_anew(destination, now)
        change = sa.update(DELIVERY).where(
            DELIVERY.c.state.in_([DeliveryState.WAITING.value, DeliveryState.DEAD.value])
        )
        if destination is not None:
            change = change.where(DELIVERY.c.destination == destination)
        return asked + self._count(
            change.values(
                state=DeliveryState.WAITING.value,
                due_at=now.timestamp(),
                changed_at=now.timestamp(),
            )
        )

    def drop(self, *, destination: str | None = None) -> int:
        """Forget the dead letters; returns how many. The objects stay on disk."""
        where = DELIVERY.c.state == DeliveryState.DEAD
        if destination is not None:
            where = where & (DELIVERY.c.destination == destination)
        return self._count(sa.delete(DELIVERY).where(where))

    def _change(
        self,
        sop_instance_uid: str,
        destination: str,
        *,
        unless: DeliveryState | None = None,
        **values: object,
    ) -> None:
        change = sa.update(DELIVERY).where(_row(sop_instance_uid, destination))
        if unless is not None:
            change = change.where(DELIVERY.c.state != unless)
        self._count(change.values(**values))

    def _count(self, statement: sa.Update | sa.Delete) -> int:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount


def _row(sop_instance_uid: str, destination: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        DELIVERY.c.sop_instance_uid == sop_instance_uid,
        DELIVERY.c.destination == destination,
    )

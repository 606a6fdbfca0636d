"""The register of studies, series and instances: it remembers, others decide.

Its own SQLite file. It may hold a patient's ID: the file is private to its owner and no value of
it is ever logged. What it knows of files is rebuilt from the inbox when it is lost.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading, open_sqlite
from dicom_node.errors import PermanentError
from dicom_node.index.arrivals import identities, note_new, outcome_of, touch_studies
from dicom_node.index.batches import batches
from dicom_node.index.commitments import Commitments
from dicom_node.index.evidence import Evidence
from dicom_node.index.layout import bring_up_to_date
from dicom_node.index.moments import from_us, to_us
from dicom_node.index.newcomers import Newcomers
from dicom_node.index.paging import Paging
from dicom_node.index.rows import Arrival, CompletionRow, Outcome, StudyRow, StudyState
from dicom_node.index.studies import (
    completions,
    note_completion,
    study_rows,
    to_completion,
    to_study,
    uids_with,
)
from dicom_node.index.tables import APART, FRESH, INSTANCE, METADATA, OPENING, STUDY
from dicom_node.index.tally import TALLY
from dicom_node.records import Instance


class Index:
    """The register in a SQLite file; its folder must exist."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._engine = open_sqlite(path, METADATA, layout=None)
        self._reads = for_reading(self._engine)
        bring_up_to_date(self._engine)
        #: what peers said of instances
        self.evidence = Evidence(self._engine, self._reads)
        #: the reports that they are owed
        self.commitments = Commitments(self._engine, self._reads)
        #: what came since somebody looked last
        self.newcomers = Newcomers(self._reads)
        #: studies page by page
        self.paging = Paging(self._reads)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def register(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Register instances in one transaction; repeating it changes nothing.

        A new ultrasound image re-opens its study; other objects, as results that the PACS routes
        back, do not.

        Returns
        -------
        list of Outcome
            One for each arrival, in order.
        """
        with self._engine.begin() as connection:
            uids = [arrival.instance.sop_instance_uid for arrival in arrivals]
            known = identities(connection, uids)
            outcomes, new = [], []
            for arrival in arrivals:
                instance = arrival.instance
                identity = (instance.file_id, instance.sha256)
                if instance.sop_instance_uid not in known:
                    known[instance.sop_instance_uid] = identity
                    new.append(arrival)
                outcomes.append(outcome_of(identity, known[instance.sop_instance_uid]))
            self._insert(connection, new)
        return outcomes

    def due(self, now: datetime, quiet_s: float) -> list[str]:
        """Return the open studies for which nothing came for `quiet_s`, oldest first."""
        limit_us = to_us(now - timedelta(seconds=quiet_s))
        query = (
            sa.select(STUDY.c.study_instance_uid)
            .where(STUDY.c.state == StudyState.OPEN, STUDY.c.last_received_us <= limit_us)
            .order_by(STUDY.c.last_received_us)
        )
        with self._reads.connect() as connection:
            return list(connection.scalars(query))

    def overdue(self, now: datetime, longest_s: float) -> list[str]:
        """Return the open studies whose first new instance came `longest_s` ago, oldest first."""
        limit_us = to_us(now - timedelta(seconds=longest_s))
        query = (
            sa.select(OPENING.c.study_instance_uid)
            .where(OPENING.c.first_us <= limit_us)
            .order_by(OPENING.c.first_us)
        )
        with self._reads.connect() as connection:
            return list(connection.scalars(query))

    def complete(
        self, study_uid: str, *, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> int:
        """Complete a study and return its revision; a complete one keeps its revision.

        Parameters
        ----------
        reason : str
            Why now, for the engineer.
        evidence : mapping
            What was seen; goes into JSON.

        Raises
        ------
        PermanentError
            When the index has no such study.
        """
        is_study = STUDY.c.study_instance_uid == study_uid
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(STUDY).where(is_study)).one_or_none()
            if row is None:
                raise PermanentError(f"no study {study_uid!r} is registered")
            if row.state == StudyState.COMPLETE:
                return int(row.revision)
            revision = int(row.revision) + 1
            values = {
                "state": StudyState.COMPLETE,
                "revision": revision,
                "completed_us": to_us(now),
                "reason": reason,
                "evidence": dict(evidence),
            }
            connection.execute(sa.update(STUDY).where(is_study).values(values))
            note_completion(connection, study_uid, values)
            for table in (OPENING, FRESH):
                connection.execute(sa.delete(table).where(table.c.study_instance_uid == study_uid))
            return revision

    def unfinished(self, *, or_open: bool = False) -> list[StudyRow]:
        """Return the complete studies whose work has not ended, on demand the open ones too."""
        which = "state = 'complete' AND finished < revision"
        query = study_rows().where(sa.text(f"state = 'open' OR ({which})" if or_open else which))
        with self._reads.connect() as connection:
            return [to_study(row) for row in connection.execute(query)]

    def finish(self, study_uid: str, revision: int) -> None:
        """Note that this revision was worked on to its end; repeating it does no harm."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(STUDY)
                .where(STUDY.c.study_instance_uid == study_uid, STUDY.c.finished < revision)
                .values(finished=revision)
            )

    def is_finished(self, study_uid: str) -> bool:
        """Whether the study is registered, complete, and worked on to its end."""
        row = self.study(study_uid)
        return row is not None and row.state is StudyState.COMPLETE and row.finished == row.revision

    def instances(self, study_uid: str) -> list[Instance]:
        """Return the instances of a study in the order of their arrival."""
        query = (
            sa.select(INSTANCE)
            .where(INSTANCE.c.study_instance_uid == study_uid)
            .order_by(INSTANCE.c.received_us, INSTANCE.c.file_id)
        )
        with self._reads.connect() as connection:
            return [self._instance(row) for row in connection.execute(query)]

    def find(self, sop_instance_uid: str) -> Instance | None:
        """Return one instance, None when it is not registered."""
        query = sa.select(INSTANCE).where(INSTANCE.c.sop_instance_uid == sop_instance_uid)
        with self._reads.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else self._instance(row)

    def find_all(self, sop_instance_uids: Sequence[str]) -> dict[str, Instance]:
        """Return those of some instances that are registered, by SOP Instance UID."""
        found: dict[str, Instance] = {}
        with self._reads.connect() as connection:
            for batch in batches(list(sop_instance_uids)):
                query = sa.select(INSTANCE).where(INSTANCE.c.sop_instance_uid.in_(batch))
                for row in connection.execute(query):
                    found[row.sop_instance_uid] = self._instance(row)
        return found

    def apart(self, sha256: str) -> str | None:
        """Return the id of the quarantined file with this data set, None when there is none."""
        query = sa.select(APART.c.file_id).where(APART.c.sha256 == sha256)
        with self._reads.connect() as connection:
            return connection.scalar(query)

    def put_apart(self, sha256: str, file_id: str) -> None:
        """Note that a file with this data set went into quarantine."""
        row = insert(APART).values(sha256=sha256, file_id=file_id)
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[APART.c.sha256], set_={"file_id": row.excluded.file_id}
                )
            )

    def replace(self, arrival: Arrival) -> None:
        """Let another file with the same SOP Instance UID and other bytes take the row."""
        uid = arrival.instance.sop_instance_uid
        with self._engine.begin() as connection:
            connection.execute(sa.delete(INSTANCE).where(INSTANCE.c.sop_instance_uid == uid))
            self._insert(connection, [arrival])

    def repoint(self, sop_instance_uid: str, *, file_id: str, path: Path) -> None:
        """Let a row stand for another file with the same data set; its own was lost."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(INSTANCE)
                .where(INSTANCE.c.sop_instance_uid == sop_instance_uid)
                .values(file_id=file_id, path=self._relative(path))
            )

    def study(self, study_uid: str) -> StudyRow | None:
        """Return one study, None when it is not registered."""
        query = study_rows().where(STUDY.c.study_instance_uid == study_uid)
        with self._reads.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else to_study(row)

    def instances_of(self, study_uids: Iterable[str]) -> dict[str, int]:
        """Return how many instances of each study are registered; without those of none."""
        wanted = sa.func.json_each(json.dumps(list(study_uids))).table_valued("value")
        uid = INSTANCE.c.study_instance_uid
        query = sa.select(uid, sa.func.count().label("instances")).group_by(uid)
        query = query.where(uid.in_(sa.select(wanted.c.value)))
        with self._reads.connect() as connection:
            return {row.study_instance_uid: row.instances for row in connection.execute(query)}

    def find_studies(self, part: str, limit: int) -> list[str]:
        """Return the Study Instance UIDs that hold `part`, first the one that is it."""
        with self._reads.connect() as connection:
            return list(connection.scalars(uids_with(part).limit(limit)))

    def completions(self, study_uid: str) -> list[CompletionRow]:
        """Return when and why a study was complete, each time, the first one first."""
        with self._reads.connect() as connection:
            return [to_completion(row) for row in connection.execute(completions(study_uid))]

    def studies(self, limit: int) -> list[StudyRow]:
        """Return the studies that received something last, newest first."""
        # state by state: each is one look into `study_by_state`, not a walk over every study
        latest = (
            sa.select(STUDY.c.study_instance_uid)
            .where(STUDY.c.state == state)
            .order_by(STUDY.c.last_received_us.desc())
            .limit(limit)
            .subquery()
            for state in StudyState
        )
        uids = sa.union_all(*(sa.select(found) for found in latest))
        query = study_rows().where(STUDY.c.study_instance_uid.in_(uids))
        query = query.order_by(STUDY.c.last_received_us.desc()).limit(limit)
        with self._reads.connect() as connection:
            return [to_study(row) for row in connection.execute(query)]

    def unknown(self, file_ids: Iterable[str]) -> list[str]:
        """Return those inbox files, in order, that no row stands for."""
        # one argument for all of them: a start-up asks for every file of the inbox
        wanted = sa.func.json_each(json.dumps(list(file_ids))).table_valued("key", "value")
        query = (
            sa.select(wanted.c.value)
            .where(wanted.c.value.not_in(sa.select(INSTANCE.c.file_id)))
            .order_by(wanted.c.key)
        )
        with self._reads.connect() as connection:
            return list(connection.scalars(query))

    def counts(self) -> dict[str, int]:
        """Return how much is registered, for a status page."""
        studies = (
            sa.select(sa.func.count())
            .where(STUDY.c.state == state)
            .scalar_subquery()
            .label(f"studies_{state}")
            for state in StudyState
        )
        tallies = (TALLY.c.series, TALLY.c.instances, TALLY.c.bytes)
        with self._reads.connect() as connection:
            return dict(connection.execute(sa.select(*studies, *tallies)).one()._mapping)

    def _insert(self, connection: sa.Connection, arrivals: Sequence[Arrival]) -> None:
        if not arrivals:
            return
        touch_studies(connection, arrivals)
        instances = [arrival.instance for arrival in arrivals]
        connection.execute(sa.insert(INSTANCE), [self._values(i) for i in instances])
        note_new(connection, instances)

    def _values(self, instance: Instance) -> dict[str, Any]:
        values = {
            column.name: getattr(instance, column.name)
            for column in INSTANCE.c
            if column.name not in ("path", "received_us")
        }
        return values | {
            "path": self._relative(instance.path),
            "received_us": to_us(instance.received_at),
        }

    def _instance(self, row: sa.Row[Any]) -> Instance:
        values = dict(row._mapping)
        values["received_at"] = from_us(values.pop("received_us"))
        values["path"] = self._folder / values["path"]
        return Instance(**values)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._folder) if path.is_relative_to(self._folder) else path)

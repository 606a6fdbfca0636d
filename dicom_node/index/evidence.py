"""What peers said of instances, and how it compares with what is here."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.index.batches import batches
from dicom_node.index.moments import from_us, to_us
from dicom_node.index.rows import CommitmentState, CountRow, Word
from dicom_node.index.tables import (
    COMMITMENT,
    COUNTED,
    FRESH,
    INSTANCE,
    LISTED,
    SAID,
    SAID_STUDY,
    STUDY,
)
from dicom_node.records import Notice, NoticeKind, Reference
from dicom_node.sop_classes import ULTRASOUND_IMAGES

#: A step in one of these will not change any more (PS3.4 F.7.2.2.2).
ENDED: Final = ("COMPLETED", "DISCONTINUED")
_IS_OF_THIS_LULL: Final = sa.and_(
    COUNTED.c.study_instance_uid == STUDY.c.study_instance_uid,
    COUNTED.c.last_received_us == STUDY.c.last_received_us,
)


class Evidence:
    """The notices of a register; made by `Index`."""

    def __init__(self, engine: sa.Engine, reads: sa.Engine) -> None:
        self._engine, self._reads = engine, reads

    def take(self, notice: Notice) -> bool:
        """Remember a notice; taking it again changes nothing.

        What is said again under the same UID by the same Application Entity replaces what was
        said before; of a procedure step, only what changed is sent, and what ended stays.

        Returns
        -------
        bool
            False when it was known, or is about a procedure step that has ended.
        """
        with self._engine.begin() as connection:
            if connection.scalar(sa.select(SAID.c.serial).where(SAID.c.file_id == notice.file_id)):
                return False
            earlier = connection.execute(_earlier(notice)).one_or_none()
            if earlier is not None and notice.kind is NoticeKind.PROCEDURE_STEP:
                if earlier.status in ENDED:
                    return False
                _take_change(connection, notice, earlier)
                return True
            if earlier is not None:
                connection.execute(sa.delete(SAID).where(SAID.c.serial == earlier.serial))
            serial = _insert(connection, notice)
            if notice.kind is NoticeKind.COMMITMENT:
                _owe_report(connection, serial, notice)
        return True

    def serial(self) -> int:
        """Return a number that grows with everything that is taken."""
        query = sa.select(sa.func.coalesce(sa.func.max(SAID.c.serial), 0))
        with self._reads.connect() as connection:
            return int(connection.scalars(query).one())

    def spoken_of(self, study_uids: Sequence[str]) -> set[str]:
        """Return those of some open studies of which anything was said."""
        found: set[str] = set()
        with self._reads.connect() as connection:
            for batch in batches(study_uids):
                lists = (
                    sa.select(FRESH.c.study_instance_uid)
                    .join(LISTED, LISTED.c.sop_instance_uid == FRESH.c.sop_instance_uid)
                    .where(FRESH.c.study_instance_uid.in_(batch))
                )
                names = sa.select(SAID_STUDY.c.study_instance_uid).where(
                    SAID_STUDY.c.study_instance_uid.in_(batch)
                )
                found.update(connection.scalars(sa.union(lists, names)))
        return found

    def word(self, kind: NoticeKind, study_uid: str) -> Word:
        """Return what was said by one service of what is new in an open study.

        A notice speaks of a study when it names it, or lists an instance that is new in it.
        """
        of_study = FRESH.c.study_instance_uid == study_uid
        lists = sa.select(LISTED.c.serial).select_from(
            LISTED.join(FRESH, LISTED.c.sop_instance_uid == FRESH.c.sop_instance_uid)
        )
        names = sa.select(SAID_STUDY.c.serial).where(SAID_STUDY.c.study_instance_uid == study_uid)
        speaks = sa.and_(
            SAID.c.kind == kind, SAID.c.serial.in_(sa.union(lists.where(of_study), names))
        )
        listed = sa.select(LISTED.c.sop_instance_uid).where(
            LISTED.c.serial.in_(sa.select(SAID.c.serial).where(speaks))
        )
        new_images = (
            sa.select(FRESH.c.sop_instance_uid)
            .join(INSTANCE, FRESH.c.sop_instance_uid == INSTANCE.c.sop_instance_uid)
            .where(of_study, INSTANCE.c.sop_class_uid.in_(ULTRASOUND_IMAGES))
        )
        registered = sa.select(INSTANCE.c.sop_instance_uid)
        with self._reads.connect() as connection:
            said = connection.execute(sa.select(SAID.c.ae_title, SAID.c.status).where(speaks)).all()
            if not said:
                return Word(ae_titles=(), listed=0, missing=0, unlisted=0, running=0)
            return Word(
                ae_titles=tuple(sorted({row.ae_title for row in said})),
                listed=_count(connection, listed.distinct()),
                missing=_count(
                    connection,
                    listed.where(LISTED.c.sop_instance_uid.not_in(registered)).distinct(),
                ),
                unlisted=_count(
                    connection, new_images.where(FRESH.c.sop_instance_uid.not_in(listed))
                ),
                running=sum(
                    kind is NoticeKind.PROCEDURE_STEP and row.status not in ENDED for row in said
                ),
            )

    def note_count(self, study_uid: str, answer: CountRow) -> None:
        """Remember what a PACS counted; the latest answer stays."""
        row = insert(COUNTED).values(
            study_instance_uid=study_uid,
            ae_title=answer.ae_title,
            instances=answer.instances,
            last_received_us=to_us(answer.last_received_at),
        )
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[COUNTED.c[0]],
                    set_={column.name: row.excluded[column.name] for column in list(COUNTED.c)[1:]},
                )
            )

    def counted(self, study_uids: Sequence[str]) -> dict[str, CountRow]:
        """Return what a PACS counted of some studies since the last of each came."""
        found: dict[str, CountRow] = {}
        with self._reads.connect() as connection:
            for batch in batches(study_uids):
                query = (
                    sa.select(COUNTED)
                    .join(STUDY, _IS_OF_THIS_LULL)
                    .where(COUNTED.c.study_instance_uid.in_(batch))
                )
                for row in connection.execute(query):
                    found[row.study_instance_uid] = CountRow(
                        ae_title=row.ae_title,
                        instances=row.instances,
                        last_received_at=from_us(row.last_received_us),
                    )
        return found

    def uncounted(self, study_uids: Sequence[str]) -> list[tuple[str, datetime]]:
        """Return the others, each with the time when the last of it came."""
        found: list[tuple[str, datetime]] = []
        with self._reads.connect() as connection:
            for batch in batches(study_uids):
                query = (
                    sa.select(STUDY.c.study_instance_uid, STUDY.c.last_received_us)
                    .outerjoin(COUNTED, _IS_OF_THIS_LULL)
                    .where(STUDY.c.study_instance_uid.in_(batch))
                    .where(COUNTED.c.study_instance_uid.is_(None))
                )
                found += [(uid, from_us(last_us)) for uid, last_us in connection.execute(query)]
        return found

    def forget(self, before: datetime) -> int:
        """Forget what was said before a time and is owed no report; return how many notices."""
        owed = sa.select(COMMITMENT.c.serial).where(COMMITMENT.c.state == CommitmentState.WAITING)
        old = sa.and_(SAID.c.received_us < to_us(before), SAID.c.serial.not_in(owed))
        with self._engine.begin() as connection:
            return connection.execute(sa.delete(SAID).where(old)).rowcount


def _earlier(notice: Notice) -> sa.Select[Any]:
    return sa.select(SAID).where(
        SAID.c.uid == notice.uid,
        SAID.c.kind == notice.kind,
        SAID.c.ae_title == notice.calling_ae_title,
    )


def _insert(connection: sa.Connection, notice: Notice, status: str | None = None) -> int:
    values = {
        "file_id": notice.file_id,
        "kind": notice.kind,
        "ae_title": notice.calling_ae_title,
        "host": notice.host,
        "uid": notice.uid,
        "status": notice.status if status is None else status,
        "received_us": to_us(notice.received_at),
    }
    done = connection.execute(sa.insert(SAID).values(values))
    serial = int(done.lastrowid)
    _name(connection, serial, notice.study_instance_uids)
    _list(connection, serial, notice.references)
    return serial


def _take_change(connection: sa.Connection, notice: Notice, earlier: sa.Row[Any]) -> None:
    """Let an N-SET stand for the step: its own status and lists, the rest as it was."""
    serial = _insert(connection, notice, notice.status or earlier.status)
    before = SAID_STUDY.c.serial == earlier.serial
    _name(connection, serial, connection.scalars(sa.select(SAID_STUDY.c[1]).where(before)).all())
    if not notice.references:
        connection.execute(
            sa.update(LISTED).where(LISTED.c.serial == earlier.serial).values(serial=serial)
        )
    connection.execute(sa.delete(SAID).where(SAID.c.serial == earlier.serial))


def _name(connection: sa.Connection, serial: int, studies: Iterable[str]) -> None:
    rows = [{"serial": serial, "study_instance_uid": study} for study in studies]
    if rows:
        connection.execute(insert(SAID_STUDY).on_conflict_do_nothing(), rows)


def _list(connection: sa.Connection, serial: int, references: Iterable[Reference]) -> None:
    rows = [{"serial": serial, **vars(reference)} for reference in references]
    if rows:
        connection.execute(sa.insert(LISTED), rows)


def _owe_report(connection: sa.Connection, serial: int, notice: Notice) -> None:
    values = {
        "serial": serial,
        "state": CommitmentState.WAITING,
        "attempts": 0,
        "due_us": to_us(notice.received_at),
        "reason": "",
    }
    connection.execute(sa.insert(COMMITMENT).values(values))


def _count(connection: sa.Connection, query: sa.Select[Any]) -> int:
    return int(connection.scalars(sa.select(sa.func.count()).select_from(query.subquery())).one())

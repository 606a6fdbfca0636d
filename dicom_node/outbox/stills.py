"""SEGs of stills, which are sent as parts of one object: who shall get them, what they went into.

The SEG of a still stands in ``result`` as all results do, and a row of ``part`` says with which
others it goes out. It is promised instead of owed, until the study is looked through and one object
of all is owed in its place. What else is owed of the still waits for that.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.owing import owe, withdraw
from dicom_node.outbox.rows import DeliveryState, to_result
from dicom_node.outbox.shadow import IS_SHADOW
from dicom_node.outbox.tables import DELIVERY, METADATA, RESULT, VERSION
from dicom_node.outbox.versions import (
    HAS_VERSION,
    VERSIONS,
    note_result,
    results_with_versions,
)
from dicom_node.records import Merging, Result

#: So long the other results of a still wait for its SEG, should its study not come to an end.
HOLD_S: Final = 600.0

PART: Final = sa.Table(
    "part",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    # as in `Merging`: of what it goes into
    sa.Column("merged_series_uid", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("most", sa.Integer, nullable=False),
    sa.Column("form", sa.String, nullable=False),
)
# destinations that get what a part goes into
PART_OWED: Final = sa.Table(
    "part_owed",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("destination", sa.String, primary_key=True),
)
# which parts an object was made of
MERGED: Final = sa.Table(
    "merged",
    METADATA,
    sa.Column("sop_instance_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True),
    sa.Column("part_uid", sa.ForeignKey("result.sop_instance_uid"), primary_key=True, index=True),
)


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """The SEG of a still, of what was said of it last."""

    #: with `merging` and `form`
    result: Result
    created_at: datetime
    #: destinations that get what it goes into
    promised: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class MergedRow:
    """An object of stills."""

    result: Result
    #: SOP Instance UIDs of what it was made of
    parts: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What becomes of the SEGs of a study's stills."""

    #: objects that are new, with the destinations that are owed them
    made: Sequence[tuple[MergedRow, frozenset[str]]] = ()
    #: SOP Instance UIDs of objects that stay what is said
    kept: Collection[str] = ()
    #: SEGs of stills that go by themselves
    alone: Sequence[PartRow] = ()


class Stills:
    """The SEGs of stills in an outbox; made by `Outbox`."""

    def __init__(self, engine: sa.Engine, reads: sa.Engine, folder: Path) -> None:
        self._engine, self._reads, self._folder = engine, reads, folder

    def parts(self, study_instance_uid: str) -> list[PartRow]:
        """Return the SEGs of a study's stills that were said last, by image."""
        version = sa.func.coalesce(VERSION.c.version, 1)
        results = RESULT.outerjoin(VERSION, HAS_VERSION)
        in_study = RESULT.c.study_instance_uid == study_instance_uid
        last = (
            sa.select(RESULT.c.source_sop_instance_uid, sa.func.max(version).label("version"))
            .select_from(results)
            .where(in_study, sa.not_(IS_SHADOW))
            .group_by(RESULT.c.source_sop_instance_uid)
            .subquery()
        )
        is_last = sa.and_(
            last.c.source_sop_instance_uid == RESULT.c.source_sop_instance_uid,
            last.c.version == version,
        )
        query = (
            sa.select(RESULT, *VERSIONS, *_MERGING)
            .select_from(results.join(PART).join(last, is_last))
            .where(in_study)
            .order_by(RESULT.c.source_sop_instance_uid)
        )
        promises = sa.select(PART_OWED).join(RESULT).where(in_study)
        with self._reads.connect() as connection:
            promised: dict[str, set[str]] = {}
            for row in connection.execute(promises):
                promised.setdefault(row.sop_instance_uid, set()).add(row.destination)
            return [
                PartRow(
                    result=_to_part(row, self._folder),
                    created_at=datetime.fromtimestamp(row.created_at, UTC),
                    promised=frozenset(promised.get(row.sop_instance_uid, ())),
                )
                for row in connection.execute(query)
            ]

    def merged(self, study_instance_uid: str) -> list[MergedRow]:
        """Return every object of stills of a study, in the order of their versions."""
        in_study = RESULT.c.study_instance_uid == study_instance_uid
        is_of = MERGED.c.sop_instance_uid == RESULT.c.sop_instance_uid
        query = (
            results_with_versions()
            .where(in_study, sa.exists().where(is_of))
            .order_by(VERSION.c.version)
        )
        members = sa.select(MERGED).join(RESULT, is_of).where(in_study)
        with self._reads.connect() as connection:
            parts: dict[str, set[str]] = {}
            for row in connection.execute(members):
                parts.setdefault(row.sop_instance_uid, set()).add(row.part_uid)
            return [
                MergedRow(
                    result=to_result(row, self._folder),
                    parts=frozenset(parts[row.sop_instance_uid]),
                )
                for row in connection.execute(query)
            ]

    def settle(self, study_instance_uid: str, settlement: Settlement, *, now: datetime) -> None:
        """Owe what is new in a study and withdraw what it replaces; all or nothing.

        Parameters
        ----------
        study_instance_uid : str
            The study.
        settlement : Settlement
            Of other objects of its stills nothing is sent any more. The same call again changes
            nothing.
        now : datetime
            Aware.
        """
        at = now.timestamp()
        current = {*settlement.kept, *(row.result.sop_instance_uid for row, _ in settlement.made)}
        with self._engine.begin() as connection:
            for row, destinations in settlement.made:
                uid = row.result.sop_instance_uid
                note_result(connection, row.result, at)
                for part_uid in sorted(row.parts):
                    member = insert(MERGED).values(sop_instance_uid=uid, part_uid=part_uid)
                    connection.execute(member.on_conflict_do_nothing())
                _owe(connection, uid, destinations, at)
                withdraw(connection, DELIVERY.c.sop_instance_uid.in_(row.parts), at)
            for part in settlement.alone:
                _owe(connection, part.result.sop_instance_uid, part.promised, at)
            withdraw(connection, _replaced(study_instance_uid, current), at)
            connection.execute(
                sa.update(DELIVERY).where(_is_held(study_instance_uid, at)).values(due_at=at)
            )


def note_part(connection: sa.Connection, result: Result) -> None:
    """Write down with which others the SEG of a still goes out; of other results nothing."""
    if result.merging is None:
        return
    row = insert(PART).values(
        sop_instance_uid=result.sop_instance_uid,
        merged_series_uid=result.merging.series_instance_uid,
        digest=result.merging.digest,
        most=result.merging.most,
        form=result.form,
    )
    connection.execute(row.on_conflict_do_nothing())


def note_owed(connection: sa.Connection, owed: Sequence[tuple[Result, str]], at: float) -> None:
    """Owe the results of an image, but for the SEG of a still, which is promised.

    Who was promised one gets the others with what it goes into, in one association.
    """
    promised = {destination for result, destination in owed if result.merging is not None}
    for result, destination in owed:
        uid = result.sop_instance_uid
        if result.merging is None:
            hold_s = HOLD_S if destination in promised else 0.0
            owe(connection, uid, destination, at, hold_s=hold_s)
        else:
            row = insert(PART_OWED).values(sop_instance_uid=uid, destination=destination)
            connection.execute(row.on_conflict_do_nothing())


_MERGING: Final = (PART.c.merged_series_uid, PART.c.digest, PART.c.most, PART.c.form)


def _to_part(row: sa.Row[Any], folder: Path) -> Result:
    merging = Merging(series_instance_uid=row.merged_series_uid, digest=row.digest, most=row.most)
    return replace(to_result(row, folder), form=row.form, merging=merging)


def _owe(connection: sa.Connection, uid: str, destinations: Iterable[str], at: float) -> None:
    for destination in sorted(destinations):
        owe(connection, uid, destination, at)


def _is_held(study_instance_uid: str, at: float) -> sa.ColumnElement[bool]:
    """Tell the rows of ``delivery`` that wait for what the SEGs of a study's stills go into."""
    stills = sa.select(RESULT.c.source_sop_instance_uid).join(PART)
    of_stills = sa.select(RESULT.c.sop_instance_uid).where(
        RESULT.c.study_instance_uid == study_instance_uid,
        RESULT.c.source_sop_instance_uid.in_(
            stills.where(RESULT.c.study_instance_uid == study_instance_uid)
        ),
    )
    return sa.and_(
        DELIVERY.c.sop_instance_uid.in_(of_stills),
        DELIVERY.c.state == DeliveryState.WAITING,
        DELIVERY.c.attempts == 0,
        DELIVERY.c.due_at > at,
    )


def _replaced(study_instance_uid: str, current: Collection[str]) -> sa.ColumnElement[bool]:
    """Tell the rows of ``delivery`` that are about a study's former objects of stills."""
    former = (
        sa.select(MERGED.c.sop_instance_uid)
        .join(RESULT, MERGED.c.sop_instance_uid == RESULT.c.sop_instance_uid)
        .where(
            RESULT.c.study_instance_uid == study_instance_uid,
            MERGED.c.sop_instance_uid.not_in(current),
        )
    )
    return DELIVERY.c.sop_instance_uid.in_(former)

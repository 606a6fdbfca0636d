"""What became of each image on the way to its results: for whoever asks after a study.

What its harvest came to, which models answered and how, and why something did not pass the gate. It
decides nothing: what is owed stands in the other tables. Of an image the last run is kept. What a
former program worked on has no rows here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.outbox.stills import MERGED, PART
from dicom_node.outbox.tables import DELIVERY, METADATA, RESULT, VERSION
from dicom_node.outbox.versions import HAS_VERSION
from dicom_node.records import Algorithm, Analysis, Instance, ResultKind

HARVESTED: Final = sa.Table(
    "harvested",
    METADATA,
    sa.Column("source_sop_instance_uid", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("harvested_at", sa.Float, nullable=False),
)
ANSWER: Final = sa.Table(
    "answer",
    METADATA,
    sa.Column("source_sop_instance_uid", sa.String, primary_key=True),
    # of the bundle, as in `Algorithm`
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("said", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("answered_at", sa.Float, nullable=False),
)
REJECTION: Final = sa.Table(
    "rejection",
    METADATA,
    sa.Column("source_sop_instance_uid", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("rejected_at", sa.Float, nullable=False),
)


class Said(StrEnum):
    """How a model answered."""

    FOUND = "found"
    NOTHING_FOUND = "nothing found"
    SCORED = "scored"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class HarvestedRow:
    """What became of the frames of one image."""

    source_sop_instance_uid: str
    #: frames by what became of them
    counts: Mapping[str, int]
    harvested_at: datetime


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """What one model said of one image."""

    source_sop_instance_uid: str
    name: str
    version: str
    #: sha256 of the bundle, hexadecimal
    digest: str
    said: Said
    #: why it failed, "" otherwise
    reason: str
    answered_at: datetime


@dataclass(frozen=True, kw_only=True)
class RejectionRow:
    """That results of an image were not fit to leave."""

    source_sop_instance_uid: str
    study_instance_uid: str
    reason: str
    rejected_at: datetime


@dataclass(frozen=True, kw_only=True)
class PassedRow:
    """An object that passed the gate."""

    sop_instance_uid: str
    #: SOP Instance UIDs of what it speaks of
    images: tuple[str, ...]
    kind: ResultKind
    version: int
    created_at: datetime
    #: in the folder of results
    file_name: str


class Trail:
    """The rows of an outbox that tell and decide nothing; made by `Outbox`."""

    def __init__(self, engine: sa.Engine, reads: sa.Engine) -> None:
        self._engine, self._reads = engine, reads

    def note_harvest(self, image: Instance, counts: Mapping[str, int], now: datetime) -> None:
        """Write down what the harvest of an image came to, in place of the one before."""
        row = insert(HARVESTED).values(
            source_sop_instance_uid=image.sop_instance_uid,
            study_instance_uid=image.study_instance_uid,
            counts=dict(counts),
            harvested_at=now.timestamp(),
        )
        latest = {name: row.excluded[name] for name in ("counts", "harvested_at")}
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(index_elements=list(HARVESTED.primary_key), set_=latest)
            )

    def note(self, analysis: Analysis, *, rejected: str, now: datetime) -> None:
        """Write down what the models said of an image, in place of what they said before.

        Parameters
        ----------
        analysis : Analysis
        rejected : str
            Why its results may not leave, "" when they may; never a patient's data.
        now : datetime
            Aware.
        """
        source, study = analysis.instance.sop_instance_uid, analysis.instance.study_instance_uid
        image = {"source_sop_instance_uid": source, "study_instance_uid": study}
        with self._engine.begin() as connection:
            for table in (ANSWER, REJECTION):
                before = table.c.source_sop_instance_uid == source
                connection.execute(sa.delete(table).where(before))
            for algorithm, said, reason in _said(analysis):
                values = {
                    "digest": algorithm.digest,
                    "name": algorithm.name,
                    "version": algorithm.version,
                    "said": said.value,
                    "reason": reason,
                    "answered_at": now.timestamp(),
                }
                # of two copies of one bundle the first speaks
                connection.execute(insert(ANSWER).values(image | values).on_conflict_do_nothing())
            if rejected:
                values = {"reason": rejected, "rejected_at": now.timestamp()}
                connection.execute(sa.insert(REJECTION).values(image | values))

    def reject(self, image: Instance, reason: str, now: datetime) -> None:
        """Write down that a result of an image may not leave, found out after its analysis."""
        row = insert(REJECTION).values(
            source_sop_instance_uid=image.sop_instance_uid,
            study_instance_uid=image.study_instance_uid,
            reason=reason,
            rejected_at=now.timestamp(),
        )
        latest = {name: row.excluded[name] for name in ("reason", "rejected_at")}
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(index_elements=list(REJECTION.primary_key), set_=latest)
            )

    def harvested(self, study_instance_uid: str) -> list[HarvestedRow]:
        """Return what the harvest of a study's images came to, in the order of time."""
        query = (
            sa.select(HARVESTED)
            .where(HARVESTED.c.study_instance_uid == study_instance_uid)
            .order_by(HARVESTED.c.harvested_at)
        )
        with self._reads.connect() as connection:
            return [_to_harvested(row) for row in connection.execute(query)]

    def answers(self, study_instance_uid: str) -> list[AnswerRow]:
        """Return what models said of the images of a study, in the order of time."""
        query = (
            sa.select(ANSWER)
            .where(ANSWER.c.study_instance_uid == study_instance_uid)
            .order_by(ANSWER.c.answered_at)
        )
        with self._reads.connect() as connection:
            return [_to_answer(row) for row in connection.execute(query)]

    def rejections(
        self, study_instance_uid: str | None = None, *, limit: int = 1000
    ) -> list[RejectionRow]:
        """Return what was rejected, of one study or of all, the latest first."""
        query = sa.select(REJECTION).order_by(REJECTION.c.rejected_at.desc()).limit(limit)
        if study_instance_uid is not None:
            query = query.where(REJECTION.c.study_instance_uid == study_instance_uid)
        with self._reads.connect() as connection:
            return [_to_rejection(row) for row in connection.execute(query)]

    def passed(self, study_instance_uid: str) -> list[PassedRow]:
        """Return the objects of a study that passed the gate, in the order of time.

        Of SEGs of stills only what they were merged into, or those that go by themselves.
        """
        in_study = RESULT.c.study_instance_uid == study_instance_uid
        query = (
            sa.select(RESULT, VERSION.c.version)
            .select_from(RESULT.outerjoin(VERSION, HAS_VERSION))
            .where(in_study, ~_IS_MERGED, ~_IS_PART | _IS_OWED)
            .order_by(RESULT.c.created_at, RESULT.c.kind)
        )
        of_parts = (
            sa.select(MERGED.c.sop_instance_uid, RESULT.c.source_sop_instance_uid)
            .join(RESULT, MERGED.c.part_uid == RESULT.c.sop_instance_uid)
            .where(in_study)
            .order_by(RESULT.c.source_sop_instance_uid)
        )
        with self._reads.connect() as connection:
            images: dict[str, list[str]] = {}
            for row in connection.execute(of_parts):
                images.setdefault(row.sop_instance_uid, []).append(row.source_sop_instance_uid)
            return [_to_passed(row, images) for row in connection.execute(query)]


_IS_MERGED: Final = sa.exists().where(MERGED.c.part_uid == RESULT.c.sop_instance_uid)
_IS_PART: Final = sa.exists().where(PART.c.sop_instance_uid == RESULT.c.sop_instance_uid)
_IS_OWED: Final = sa.exists().where(DELIVERY.c.sop_instance_uid == RESULT.c.sop_instance_uid)


def _said(analysis: Analysis) -> Iterator[tuple[Algorithm, Said, str]]:
    for segmentation in analysis.segmentations:
        said = Said.NOTHING_FOUND if segmentation.is_empty else Said.FOUND
        yield segmentation.algorithm, said, ""
    for quality in analysis.qualities:
        yield quality.algorithm, Said.SCORED, ""
    for failure in analysis.failures:
        yield failure.algorithm, Said.FAILED, failure.reason


def _to_harvested(row: sa.Row[Any]) -> HarvestedRow:
    return HarvestedRow(
        source_sop_instance_uid=row.source_sop_instance_uid,
        counts=row.counts,
        harvested_at=datetime.fromtimestamp(row.harvested_at, UTC),
    )


def _to_answer(row: sa.Row[Any]) -> AnswerRow:
    return AnswerRow(
        source_sop_instance_uid=row.source_sop_instance_uid,
        name=row.name,
        version=row.version,
        digest=row.digest,
        said=Said(row.said),
        reason=row.reason,
        answered_at=datetime.fromtimestamp(row.answered_at, UTC),
    )


def _to_rejection(row: sa.Row[Any]) -> RejectionRow:
    return RejectionRow(
        source_sop_instance_uid=row.source_sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        reason=row.reason,
        rejected_at=datetime.fromtimestamp(row.rejected_at, UTC),
    )


def _to_passed(row: sa.Row[Any], images: Mapping[str, Sequence[str]]) -> PassedRow:
    merged = images.get(row.sop_instance_uid)
    return PassedRow(
        sop_instance_uid=row.sop_instance_uid,
        images=(row.source_sop_instance_uid,) if merged is None else tuple(merged),
        kind=ResultKind(row.kind),
        version=row.version or 1,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        file_name=row.file_name,
    )

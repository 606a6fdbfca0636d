"""What the sources in a header say of an instance, beside each other.

Groups come from Study Description, which is order text and often wrong. What the scanner's preset,
Image Type and the codes say stands beside it, so that agreement can be counted and asked for. Words
stand here as pseudonyms: a new table is applied to them without touching a frame.
"""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.errors import StoreError
from dicom_node.records import Geometry
from dicom_node.store import relabelling, samples
from dicom_node.store.catalogue import from_bits, instances
from dicom_node.store.columns import if_absent
from dicom_node.store.records import PROBE, RULE, Evidence, Source
from dicom_node.store.said import evidence, meaning

_PUT = if_absent(evidence)
#: Groups that are organs: two sources that name different ones contradict each other.
ORGANS = frozenset({"kidney", "liver", "thyroid"})
#: Sources that say one thing of an instance; of codes there may be several.
TEXTS = (
    Source.PROCESSING_FUNCTION.value,
    Source.IMAGE_TYPE.value,
    Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION.value,
)
#: Sources that are no second opinion on the groups.
FIRST = (Source.STUDY_DESCRIPTION.value, Source.TRANSDUCER_DATA.value)


class Verdict(StrEnum):
    """What a second source says of the groups of Study Description."""

    AGREES = "agrees"
    CONFLICTS = "conflicts"
    #: the same text again, which is no second opinion
    SAME_WORDS = "same words"
    #: Study Description is absent or not mapped
    ALONE = "alone"
    NOT_MAPPED = "not mapped"


def put(connection: sa.Connection, instance: str, said: Iterable[Evidence]) -> None:
    """Add what an instance's sources say; rows that are there stay as they are."""
    rows = [
        {"instance": instance, "source": one.source.value, "term": one.term, **meaning(one)}
        for one in said
    ]
    if rows:
        connection.execute(_PUT[connection.dialect.name], rows)


class EvidenceBook:
    """The evidence of a store, as `WeakLabelStore.evidence`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        An open catalogue.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, instance: str) -> tuple[Evidence, ...]:
        """Return what is known of an instance's pseudonym, by source."""
        query = sa.select(evidence).where(evidence.c.instance == instance)
        with for_reading(self._engine).begin() as connection:
            return tuple(
                Evidence(
                    source=Source(row.source),
                    term=row.term,
                    groups=None if row.groups is None else from_bits(row.groups),
                    rule=row.rule,
                )
                for row in connection.execute(query.order_by(evidence.c.source, evidence.c.term))
            )

    def verdicts(self) -> dict[tuple[Source, Verdict], int]:
        """Count what the second sources say of the groups of Study Description, in instances."""
        # a text is one a source and instance; telling instances apart takes five times as long
        is_text = evidence.c.source.in_(TEXTS)
        counts = (
            (is_text, sa.func.count()),
            (~is_text, sa.func.count(evidence.c.instance.distinct())),
        )
        total: Counter[tuple[Source, Verdict]] = Counter()
        for condition, counted in counts:
            query, columns = _beside_description(counted.label("instances"))
            with for_reading(self._engine).begin() as connection:
                for row in connection.execute(query.where(condition).group_by(*columns)):
                    total[Source(row.source), _verdict(row)] += row.instances
        return dict(total)

    def conflicting(self) -> frozenset[str]:
        """Return the instances of which a second source contradicts Study Description."""
        query, _ = _beside_description(evidence.c.instance)
        with for_reading(self._engine).begin() as connection:
            return frozenset(
                row.instance
                for row in connection.execute(query.where(evidence.c.groups.is_not(None)))
                if _verdict(row) is Verdict.CONFLICTS
            )

    def relabel(self, known: Iterable[Evidence]) -> int:
        """Give words other groups wherever they were met; no frame is touched.

        Parameters
        ----------
        known : iterable of Evidence
            What the tables of today say of words; words that were never met change nothing.

        Returns
        -------
        int
            How many instances have other groups than before.
        """
        return sum(relabelling.relabel(self._engine, one) for one in known)

    def samples(self, source: Source, term: str, most: int) -> list[str]:
        """Return ids of frames of which a source says this, of as many studies as can be.

        Parameters
        ----------
        source : Source
        term : str
            Pseudonym of the words.
        most : int
            How many frames.
        """
        with for_reading(self._engine).begin() as connection:
            return samples.frames_of(connection, source, term, most)

    def relabel_probe(
        self, term: str, *, probe: str | None, geometry: Geometry, geometry_rule: str
    ) -> int:
        """Give the instances of which a scanner said this of its probe another probe.

        Parameters
        ----------
        term : str
            Pseudonym of the words, as in the evidence of Transducer Data.
        probe, geometry, geometry_rule
            As in `NewFrame`.

        Returns
        -------
        int
            How many instances changed.

        Raises
        ------
        StoreError
            When a field could identify somebody.
        """
        if not RULE.fullmatch(geometry_rule) or not (probe is None or PROBE.fullmatch(probe)):
            raise StoreError("the probe or its rule is no token; nothing was changed")
        found = {"probe": probe, "geometry": geometry.value, "geometry_rule": geometry_rule}
        met = sa.select(evidence.c.instance).where(
            evidence.c.source == Source.TRANSDUCER_DATA.value, evidence.c.term == term
        )
        differs = sa.or_(*(instances.c[name].is_distinct_from(v) for name, v in found.items()))
        wrong = instances.c.instance.in_(met), differs
        return sum(
            relabelling.written(
                self._engine,
                instances.update().where(instances.c.instance.in_(part), differs).values(found),
            )
            for part in relabelling.parts(
                self._engine, sa.select(instances.c.instance).where(*wrong)
            )
        )


def _beside_description(
    first: sa.ColumnElement[Any],
) -> tuple[sa.Select[Any], list[sa.ColumnElement[Any]]]:
    """Return second sources joined with Study Description, and what decides their verdict."""
    description = evidence.alias("description")
    beside = sa.and_(
        description.c.instance == evidence.c.instance,
        description.c.source == Source.STUDY_DESCRIPTION.value,
    )
    columns: list[sa.ColumnElement[Any]] = [
        evidence.c.source,
        evidence.c.groups,
        description.c.groups.label("described"),
        (description.c.term == evidence.c.term).label("is_same"),
    ]
    query = sa.select(first, *columns).select_from(evidence.outerjoin(description, beside))
    return query.where(evidence.c.source.not_in(FIRST)), columns


def _verdict(row: Any) -> Verdict:
    if row.groups is None:
        return Verdict.NOT_MAPPED
    if row.is_same:
        return Verdict.SAME_WORDS
    if row.described is None:
        return Verdict.ALONE
    said, described = from_bits(row.groups), from_bits(row.described)
    return Verdict.AGREES if _agree(said, described) else Verdict.CONFLICTS


def _agree(said: frozenset[str], described: frozenset[str]) -> bool:
    """Whether both are none of the groups, or share one and name no different organs."""
    if not (said and described):
        return said == described
    organs = said & ORGANS, described & ORGANS
    return bool(said & described) and (not all(organs) or bool(organs[0] & organs[1]))

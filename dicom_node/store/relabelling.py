"""Words get other groups wherever they were met, a part of the instances at a time.

What differs is looked for without holding up anybody, and is written in short transactions,
between which a harvest beside it gets its turn.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.database import for_reading
from dicom_node.store.catalogue import instances, to_bits
from dicom_node.store.columns import insert
from dicom_node.store.records import Evidence, Source
from dicom_node.store.said import evidence, meaning

#: So many instances are written in one transaction.
AT_ONCE: Final = 2000


def relabel(engine: sa.Engine, one: Evidence) -> int:
    """Bring the groups of words up to date; may be killed and repeated.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        An open catalogue.
    one : Evidence
        What the words stand for today.

    Returns
    -------
    int
        How many instances have other groups than before.
    """
    changed = 0
    if one.source is Source.STUDY_DESCRIPTION:
        changed = _relabel_instances(engine, one)
        _add_missing(engine, one)
    stated = meaning(one)
    differs = sa.or_(*(evidence.c[name].is_distinct_from(value) for name, value in stated.items()))
    query = sa.select(evidence.c.instance).where(*_is_here(one), differs)
    for part in parts(engine, query):
        is_of_part = evidence.c.instance.in_(part)
        written(engine, evidence.update().where(*_is_here(one), is_of_part).values(stated))
    return changed


def _relabel_instances(engine: sa.Engine, one: Evidence) -> int:
    bits = to_bits(one.groups or ())
    differs = (instances.c.description == one.term, instances.c.groups != bits)
    return sum(
        written(
            engine,
            instances.update().where(*differs, instances.c.instance.in_(part)).values(groups=bits),
        )
        for part in parts(engine, sa.select(instances.c.instance).where(*differs))
    )


def _add_missing(engine: sa.Engine, one: Evidence) -> None:
    """Give instances from before there was evidence theirs."""
    row = {"source": one.source.value, "term": one.term, **meaning(one)}
    values = [sa.literal(value, evidence.c[name].type) for name, value in row.items()]
    known = sa.exists().where(evidence.c.instance == instances.c.instance, *_is_here(one))
    lacks = (instances.c.description == one.term, sa.not_(known))
    for part in parts(engine, sa.select(instances.c.instance).where(*lacks)):
        lacking = sa.select(instances.c.instance, *values)
        added = insert(evidence, engine.dialect).from_select(
            ["instance", *row], lacking.where(*lacks, instances.c.instance.in_(part))
        )
        written(engine, added.on_conflict_do_nothing())


def _is_here(one: Evidence) -> tuple[sa.ColumnElement[bool], ...]:
    return evidence.c.source == one.source.value, evidence.c.term == one.term


def parts(engine: sa.Engine, query: sa.Select[Any]) -> Iterator[Sequence[str]]:
    """Yield the instances that a query finds, so many at a time as are written at once."""
    with for_reading(engine).begin() as connection:
        found = connection.scalars(query).all()
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]


def written(engine: sa.Engine, statement: sa.UpdateBase) -> int:
    """Write in a transaction of its own and return how many rows changed."""
    with engine.begin() as connection:
        return connection.execute(statement).rowcount

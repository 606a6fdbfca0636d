"""The node's private notes: the scanners' raw words, so that a site can map what it meets.

Study Description can carry a name and Transducer Data a serial number: this file stays on the node,
outside the store, readable by its owner alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading, open_sqlite
from dicom_node.harvest.descriptions import DescriptionMap, Key, groups_of, normalised
from dicom_node.harvest.evidence import MOST_CHARACTERS
from dicom_node.harvest.transducer import SiteTransducer, resolve
from dicom_node.harvest.words import Words
from dicom_node.store import Source

_metadata = sa.MetaData()
#: One row a study, so that a count is a number of studies and a repeated harvest counts once.
_descriptions = sa.Table(
    "descriptions",
    _metadata,
    sa.Column("description", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
)
_transducers = sa.Table(
    "transducers",
    _metadata,
    sa.Column("manufacturer", sa.String, primary_key=True),
    sa.Column("model_name", sa.String, primary_key=True),
    sa.Column("transducer_data", sa.String, primary_key=True),
    sa.Column("transducer_type", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
)
#: What the other sources say, as `_descriptions`; `meaning` is what a code says of itself.
_terms = sa.Table(
    "terms",
    _metadata,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("term", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("meaning", sa.String, nullable=False),
)
#: What the site decided by `labels map`; groups are separated by semicolons.
_decisions = sa.Table(
    "decisions",
    _metadata,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("term", sa.String, primary_key=True),
    sa.Column("groups", sa.String, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class SeenDescription:
    """A study description as it was met, without differences of case and space."""

    description: str
    studies: int
    is_mapped: bool


@dataclass(frozen=True, kw_only=True)
class SeenTerm:
    """What another source says, as it was met."""

    source: Source
    term: str
    #: "" where the term is no code
    meaning: str
    studies: int
    is_mapped: bool


@dataclass(frozen=True, kw_only=True)
class SeenTransducer:
    """What a scanner said of its probe, and the rule that speaks for it today."""

    manufacturer: str
    model_name: str
    transducer_data: str
    transducer_type: str
    studies: int
    #: ``none`` where no rule speaks
    rule: str


class PrivateNotes:
    """The file ``harvest.db``.

    Parameters
    ----------
    path : Path
        Outside the store; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_sqlite(path, _metadata)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def record(self, words: Words, study_instance_uid: str) -> None:
        """Note the words of one instance; the same words of the same study count once."""
        with self._engine.begin() as connection:
            description = normalised(words.study_description)[:MOST_CHARACTERS]
            if description:
                connection.execute(
                    insert(_descriptions)
                    .values(description=description, study_instance_uid=study_instance_uid)
                    .on_conflict_do_nothing()
                )
            for term in words.terms:
                connection.execute(
                    insert(_terms)
                    .values(
                        source=term.source.value,
                        term=term.words[:MOST_CHARACTERS],
                        study_instance_uid=study_instance_uid,
                        meaning=term.meaning[:MOST_CHARACTERS],
                    )
                    .on_conflict_do_nothing()
                )
            connection.execute(
                insert(_transducers)
                .values(
                    manufacturer=words.manufacturer[:MOST_CHARACTERS],
                    model_name=words.model_name[:MOST_CHARACTERS],
                    transducer_data=words.transducer_data[:MOST_CHARACTERS],
                    transducer_type=words.transducer_type[:MOST_CHARACTERS],
                    study_instance_uid=study_instance_uid,
                )
                .on_conflict_do_nothing()
            )

    def descriptions(self, label_map: DescriptionMap) -> list[SeenDescription]:
        """Return the study descriptions, most frequent first; says which `label_map` knows."""
        studies = sa.func.count().label("studies")
        column = _descriptions.c.description
        query = sa.select(column, studies).group_by(column).order_by(studies.desc(), column)
        with self._engine.begin() as connection:
            return [
                SeenDescription(
                    description=row.description,
                    studies=row.studies,
                    is_mapped=label_map.groups(row.description) is not None,
                )
                for row in connection.execute(query)
            ]

    def terms(self, label_map: DescriptionMap) -> list[SeenTerm]:
        """Return what other sources say, most frequent first; says which `label_map` knows."""
        studies = sa.func.count().label("studies")
        named, meaning = [_terms.c.source, _terms.c.term], sa.func.max(_terms.c.meaning)
        query = sa.select(*named, meaning.label("meaning"), studies).group_by(*named)
        with self._engine.begin() as connection:
            return [
                SeenTerm(
                    source=Source(row.source),
                    term=row.term,
                    meaning=row.meaning,
                    studies=row.studies,
                    is_mapped=label_map.mapped(Source(row.source), row.term) is not None,
                )
                for row in connection.execute(query.order_by(studies.desc(), *named))
            ]

    def decide(self, source: Source, words: str, groups: frozenset[str]) -> None:
        """Note what words stand for; a later decision replaces an earlier one."""
        stated = {"groups": "; ".join(sorted(groups))}
        key = {"source": source.value, "term": normalised(words)}
        with self._engine.begin() as connection:
            connection.execute(
                insert(_decisions)
                .values(**key, **stated)
                .on_conflict_do_update(index_elements=["source", "term"], set_=stated)
            )

    def decisions(self) -> Mapping[Key, frozenset[str]]:
        """Return what the site decided."""
        with for_reading(self._engine).begin() as connection:
            return {
                (Source(row.source), row.term): groups_of(row.groups, "decision")
                for row in connection.execute(sa.select(_decisions))
            }

    def transducers(self, site: Sequence[SiteTransducer] = ()) -> list[SeenTransducer]:
        """Return what scanners said of their probes, most frequent first."""
        studies = sa.func.count().label("studies")
        columns = [column for column in _transducers.c if column.name != "study_instance_uid"]
        query = sa.select(*columns, studies).group_by(*columns).order_by(studies.desc(), *columns)
        with self._engine.begin() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        names = [column.name for column in columns]
        return [
            SeenTransducer(
                **row, rule=resolve(**{name: row[name] for name in names}, site=site).rule
            )
            for row in rows
        ]

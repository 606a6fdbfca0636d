"""The node's private notes: the scanners' raw words, so that a site can map what it meets.

Study Description can carry a name and Transducer Data a serial number: this file stays on the node,
outside the store, readable by its owner alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading, scrub
from dicom_node.harvest.decisions import DECISIONS, HISTORY, METADATA, DecisionBook
from dicom_node.harvest.descriptions import DescriptionMap, Key, normalised
from dicom_node.harvest.evidence import MOST_CHARACTERS
from dicom_node.harvest.transducer import SiteTransducer, resolve
from dicom_node.harvest.words import Words
from dicom_node.read_only import need_writable, open_or_read
from dicom_node.store import Source

#: Words as the scanner wrote them, the UID of their study, and the pseudonym of its patient.
Note = tuple[Words, str, str]
#: One row a study, so that a count is a number of studies and a repeated harvest counts once.
_descriptions = sa.Table(
    "descriptions",
    METADATA,
    sa.Column("description", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
)
_transducers = sa.Table(
    "transducers",
    METADATA,
    sa.Column("manufacturer", sa.String, primary_key=True),
    sa.Column("model_name", sa.String, primary_key=True),
    sa.Column("transducer_data", sa.String, primary_key=True),
    sa.Column("transducer_type", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
)
#: What the other sources say, as `_descriptions`; `meaning` is what a code says of itself.
_terms = sa.Table(
    "terms",
    METADATA,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("term", sa.String, primary_key=True),
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("meaning", sa.String, nullable=False),
)
#: Whose a study is, as a pseudonym, so that what was noted of it can be erased.
_studies = sa.Table(
    "studies",
    METADATA,
    sa.Column("study_instance_uid", sa.String, primary_key=True),
    sa.Column("patient", sa.String, primary_key=True, index=True),
)
#: Pseudonyms of their own, equal to nothing in the store: patients that are not taken in again.
_refused = sa.Table("refused", METADATA, sa.Column("patient", sa.String, primary_key=True))
#: Statements of every image, made once.
_KNOWN = sa.select(
    sa.exists().where(_refused.c.patient == sa.bindparam("of_refused")),
    sa.exists().where(
        _studies.c.study_instance_uid == sa.bindparam("of_study"),
        _studies.c.patient == sa.bindparam("of_patient"),
    ),
)
_PUT = {
    table.name: insert(table).on_conflict_do_nothing()
    for table in (_studies, _descriptions, _terms, _transducers)
}
#: Tables of words that were met, by study.
_WORDS = (_descriptions, _terms, _transducers)


@dataclass(frozen=True, kw_only=True)
class KnownPatient:
    """What the notes say of a patient and a study."""

    #: not to be taken in
    is_refused: bool
    #: that words of this study were noted as his
    has_study: bool


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
        self._engine = open_or_read(path, METADATA, updated_by="dicom-node labels unmapped")
        self._reads = for_reading(self._engine)
        #: who decided when what words stand for
        self.book = DecisionBook(self._engine)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def need_writable(self) -> None:
        """See that the file is not one that this account may only read.

        Raises
        ------
        DatabaseDownError
            When it is.
        """
        need_writable(self._engine)

    def record(self, words: Words, study_instance_uid: str, patient: str) -> None:
        """Note the words of one instance; see `record_all`."""
        self.record_all([(words, study_instance_uid, patient)])

    def record_all(self, notes: Iterable[Note]) -> None:
        """Note words at once; the same words of the same study count once."""
        rows = [row for note in notes for row in _rows_of(*note)]
        with self._engine.begin() as connection:
            for table, values in rows:
                connection.execute(_PUT[table.name], values)

    def note_study(self, study_instance_uid: str, patient: str) -> None:
        """Note whose a study is, by his pseudonym, where none of its words are to be mapped."""
        of_study = {"study_instance_uid": study_instance_uid, "patient": patient}
        with self._engine.begin() as connection:
            connection.execute(_PUT[_studies.name], of_study)

    def refuse(self, refused: str) -> None:
        """Remember a patient, by a pseudonym of the kind ``refused``, as not to be taken in."""
        with self._engine.begin() as connection:
            connection.execute(insert(_refused).values(patient=refused).on_conflict_do_nothing())

    def accept(self, refused: str) -> bool:
        """Forget that a patient is not to be taken in, and return whether that was noted."""
        of_patient = _refused.c.patient == refused
        with self._engine.begin() as connection:
            return connection.execute(_refused.delete().where(of_patient)).rowcount > 0

    def refuses(self, refused: str) -> bool:
        """Whether a patient is not to be taken in."""
        return self.known(refused, "", "").is_refused

    def known(self, refused: str, study_instance_uid: str, patient: str) -> KnownPatient:
        """Return what is known of a patient, by his pseudonyms, and of a study of his."""
        asked = {"of_refused": refused, "of_study": study_instance_uid, "of_patient": patient}
        with self._reads.begin() as connection:
            is_refused, has_study = connection.execute(_KNOWN, asked).one()
        return KnownPatient(is_refused=is_refused, has_study=has_study)

    def study_uids(self, patient: str | None = None) -> frozenset[str]:
        """Return all studies that words were noted of, or those known as a patient's."""
        uids = [table.c.study_instance_uid for table in (_studies, *_WORDS)]
        query = sa.union(*map(sa.select, uids))
        if patient is not None:
            query = sa.union(sa.select(uids[0]).where(_studies.c.patient == patient))
        with self._engine.begin() as connection:
            return frozenset(connection.scalars(query))

    def erase(self, study_uids: Collection[str]) -> int:
        """Erase what was noted of studies, from the file too, and return how many notes it was.

        Raises
        ------
        DatabaseDownError
            When the file still holds it; repeat it.
        """
        erased = 0
        with self._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
            words_before = _decidable(connection)
            for table in (_studies, *_WORDS):
                for uid in study_uids:
                    of_study = table.c.study_instance_uid == uid
                    erased += connection.execute(table.delete().where(of_study)).rowcount
            # what was decided of words that stood nowhere else quotes them
            for text in words_before - _decidable(connection):
                for table in (DECISIONS, HISTORY):
                    decided = sa.func.substr(table.c.term, 1, MOST_CHARACTERS) == text
                    erased += connection.execute(table.delete().where(decided)).rowcount
        scrub(self._engine)
        return erased

    def descriptions(self, label_map: DescriptionMap) -> list[SeenDescription]:
        """Return the study descriptions, most frequent first; says which `label_map` knows."""
        studies = sa.func.count().label("studies")
        column = _descriptions.c.description
        query = sa.select(column, studies).group_by(column).order_by(studies.desc(), column)
        with self._reads.begin() as connection:
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
        with self._reads.begin() as connection:
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
        """Note what words stand for, without saying who decided; see `DecisionBook.decide`."""
        self.book.decide(source, words, groups, who="")

    def decisions(self) -> Mapping[Key, frozenset[str]]:
        """Return what the site decided."""
        return self.book.standing()

    def transducers(self, site: Sequence[SiteTransducer] = ()) -> list[SeenTransducer]:
        """Return what scanners said of their probes, most frequent first."""
        studies = sa.func.count().label("studies")
        columns = [column for column in _transducers.c if column.name != "study_instance_uid"]
        query = sa.select(*columns, studies).group_by(*columns).order_by(studies.desc(), *columns)
        with self._reads.begin() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        names = [column.name for column in columns]
        return [
            SeenTransducer(
                **row, rule=resolve(**{name: row[name] for name in names}, site=site).rule
            )
            for row in rows
        ]


def _decidable(connection: sa.Connection) -> frozenset[str]:
    """Return the words that were met and that a decision may be about, of whichever source."""
    met = sa.union(sa.select(_descriptions.c.description), sa.select(_terms.c.term))
    return frozenset(connection.scalars(met))


def _rows_of(
    words: Words, study_instance_uid: str, patient: str
) -> Iterator[tuple[sa.Table, list[dict[str, str]]]]:
    of_study = {"study_instance_uid": study_instance_uid}
    yield _studies, [{**of_study, "patient": patient}]
    yield _transducers, [{**of_study, **_probe_words(words)}]
    description = normalised(words.study_description)[:MOST_CHARACTERS]
    if description:
        yield _descriptions, [{**of_study, "description": description}]
    terms = [
        {
            **of_study,
            "source": term.source.value,
            "term": term.words[:MOST_CHARACTERS],
            "meaning": term.meaning[:MOST_CHARACTERS],
        }
        for term in words.terms
    ]
    if terms:
        yield _terms, terms


def _probe_words(words: Words) -> dict[str, str]:
    names = ("manufacturer", "model_name", "transducer_data", "transducer_type")
    return {name: getattr(words, name)[:MOST_CHARACTERS] for name in names}

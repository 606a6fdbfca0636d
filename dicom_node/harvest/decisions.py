"""What a site decided that words stand for: who decided when, and how to take it back.

Everything stays in the history; what holds is the last decision on words that nobody has undone.
Who decides says which decision he saw, so that of two people at once the second one is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from dicom_node.database import for_reading
from dicom_node.errors import ConfigError, OvertakenError
from dicom_node.harvest.descriptions import Key, groups_of, normalised
from dicom_node.store import Source

#: Of ``harvest.db``.
METADATA: Final = sa.MetaData()
#: What holds today; groups are separated by semicolons.
DECISIONS: Final = sa.Table(
    "decisions",
    METADATA,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("term", sa.String, primary_key=True),
    sa.Column("groups", sa.String, nullable=False),
)
HISTORY: Final = sa.Table(
    "decision_history",
    METADATA,
    # a number is never given twice, also not after the last row was erased
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("term", sa.String, nullable=False),
    #: what holds from then on; null where nothing is decided any more
    sa.Column("groups", sa.String),
    #: "" and null of a decision from before there was a history
    sa.Column("who", sa.String, nullable=False, index=True),
    sa.Column("decided_at", sa.Float),
    #: which decision this takes back
    sa.Column("undoes", sa.Integer, unique=True),
    #: whether the store has these labels
    sa.Column("is_applied", sa.Boolean, nullable=False, index=True),
    sa.Index("decision_history_of_words", "source", "term", "number"),
    sqlite_autoincrement=True,
)
_UNDOING: Final = HISTORY.alias("undoing")
_IS_UNDONE: Final = (
    sa.exists().where(_UNDOING.c.undoes == HISTORY.c.number).correlate(HISTORY).label("is_undone")
)
_ROWS: Final = sa.select(HISTORY, _IS_UNDONE)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One line of the history."""

    number: int
    source: Source
    #: may hold what somebody typed: never logged
    words: str = field(repr=False)
    #: what the words stood for from then on; None where nothing was decided any more
    groups: frozenset[str] | None
    #: "" where that was not noted
    who: str
    #: None where that was not noted
    decided_at: datetime | None
    #: number of the decision that this takes back
    undoes: int | None
    is_undone: bool
    #: whether the store has these labels
    is_applied: bool

    @property
    def key(self) -> Key:
        """What the decision is about."""
        return self.source, self.words


class DecisionBook:
    """The decisions in ``harvest.db``, as `PrivateNotes.book`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        An open ``harvest.db``.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reads = for_reading(engine)
        self._note_older()

    def standing(self) -> Mapping[Key, frozenset[str]]:
        """Return what holds."""
        with self._reads.begin() as connection:
            return {
                (Source(row.source), row.term): groups_of(row.groups, "decision")
                for row in connection.execute(sa.select(DECISIONS))
            }

    def version(self, source: Source, words: str) -> int:
        """Return the number of the last line on words, 0 when there is none; see `decide`."""
        lines = self.of(source, words)
        return lines[0].number if lines else 0

    def of(self, source: Source, words: str) -> list[Decision]:
        """Return the history of words, the latest line first."""
        with self._reads.begin() as connection:
            return _rows(connection, *_about(_key(source, words)))

    def history(self, *, before: int | None = None, most: int = 100) -> list[Decision]:
        """Return lines of the history, the latest first, from those below a number."""
        conditions = [] if before is None else [HISTORY.c.number < before]
        with self._reads.begin() as connection:
            return _rows(connection, *conditions, most=most)

    def line(self, number: int) -> Decision | None:
        """Return one line, None when there is none of that number."""
        with self._reads.begin() as connection:
            return next(iter(_rows(connection, HISTORY.c.number == number)), None)

    def holding(self, source: Source, words: str) -> int | None:
        """Return the number of the decision on words that holds, None when none does."""
        living = (
            line.number
            for line in self.of(source, words)
            if line.undoes is None and not line.is_undone
        )
        return next(living, None)

    def last_of(self, who: str | None = None) -> Decision | None:
        """Return the last decision, of somebody or anybody, that nobody undid."""
        conditions = [HISTORY.c.undoes.is_(None), sa.not_(_IS_UNDONE.element)]
        if who is not None:
            conditions.append(HISTORY.c.who == who)
        with self._reads.begin() as connection:
            return next(iter(_rows(connection, *conditions, most=1)), None)

    def decide(
        self,
        source: Source,
        words: str,
        groups: frozenset[str],
        *,
        who: str,
        after: int | None = None,
    ) -> Decision:
        """Note what words stand for; a later decision replaces an earlier one.

        Parameters
        ----------
        source : Source
        words : str
            In whichever case and spacing.
        groups : frozenset of str
            May be empty: none of the eight.
        who : str
            Decides.
        after : int, optional
            The `version` that he saw; the same decision of his, sent twice, is noted once.

        Raises
        ------
        OvertakenError
            When somebody decided on these words since; nothing was changed.
        """
        key = _key(source, words)
        with self._engine.begin() as connection:
            lines = _rows(connection, *_about(key), most=1)
            if after is not None and lines and lines[0].number != after:
                last = lines[0]
                if (last.who, last.groups, last.undoes) == (who, groups, None):
                    return last
                raise OvertakenError(f"{_by(last)} decided on the same words; nothing was changed")
            return _note(connection, key, groups, who=who)

    def undo(self, number: int, *, who: str) -> Decision:
        """Take a decision back: what held before it holds again, in the history as a new line.

        Raises
        ------
        ConfigError
            When there is no such decision, or it is no decision.
        OvertakenError
            When it was undone already, or somebody decided on the same words since.
        """
        with self._engine.begin() as connection:
            line = next(iter(_rows(connection, HISTORY.c.number == number)), None)
            if line is None or line.undoes is not None:
                raise ConfigError(f"there is no decision {number}; see 'labels history'")
            living = [
                one
                for one in _rows(connection, *_about(line.key))
                if one.undoes is None and not one.is_undone
            ]
            if line.is_undone:
                raise OvertakenError(f"decision {number} was undone already; nothing was changed")
            if living[0].number != number:
                raise OvertakenError(
                    f"{_by(living[0])} decided on the same words later; undo decision "
                    f"{living[0].number} first"
                )
            before = living[1].groups if len(living) > 1 else None
            return _note(connection, line.key, before, who=who, undoes=number)

    def unapplied(self) -> list[Decision]:
        """Return the decisions that are not in the store yet, the oldest first."""
        with self._reads.begin() as connection:
            return _rows(connection, sa.not_(HISTORY.c.is_applied))[::-1]

    def note_applied(self, decisions: Sequence[Decision]) -> None:
        """Note that the store has the labels of decisions."""
        numbers = [one.number for one in decisions]
        with self._engine.begin() as connection:
            applied = HISTORY.update().where(HISTORY.c.number.in_(numbers))
            connection.execute(applied.values(is_applied=True))

    def _note_older(self) -> None:
        """Give decisions from before there was a history a line of it."""
        about = (HISTORY.c.source == DECISIONS.c.source, HISTORY.c.term == DECISIONS.c.term)
        older = sa.select(*DECISIONS.c, sa.literal(""), sa.true()).where(
            sa.not_(sa.exists().where(*about))
        )
        with self._reads.begin() as connection:
            if connection.execute(older.limit(1)).first() is None:
                return
        columns = ["source", "term", "groups", "who", "is_applied"]
        with self._engine.begin() as connection:
            connection.execute(insert(HISTORY).from_select(columns, older))


def _key(source: Source, words: str) -> Key:
    return source, normalised(words)


def _about(key: Key) -> tuple[sa.ColumnElement[bool], ...]:
    return HISTORY.c.source == key[0].value, HISTORY.c.term == key[1]


def _rows(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool], most: int | None = None
) -> list[Decision]:
    query = _ROWS.where(*conditions).order_by(HISTORY.c.number.desc()).limit(most)
    return [_decision(row) for row in connection.execute(query)]


def _decision(row: Any) -> Decision:
    at = row.decided_at
    return Decision(
        number=row.number,
        source=Source(row.source),
        words=row.term,
        groups=None if row.groups is None else groups_of(row.groups, "decision"),
        who=row.who,
        decided_at=None if at is None else datetime.fromtimestamp(at, UTC),
        undoes=row.undoes,
        is_undone=bool(row.is_undone),
        is_applied=row.is_applied,
    )


def _note(
    connection: sa.Connection,
    key: Key,
    groups: frozenset[str] | None,
    *,
    who: str,
    undoes: int | None = None,
) -> Decision:
    words = {"source": key[0].value, "term": key[1]}
    stated = None if groups is None else "; ".join(sorted(groups))
    if stated is None:
        is_it = (DECISIONS.c[name] == value for name, value in words.items())
        connection.execute(DECISIONS.delete().where(*is_it))
    else:
        connection.execute(
            insert(DECISIONS)
            .values(**words, groups=stated)
            .on_conflict_do_update(index_elements=list(words), set_={"groups": stated})
        )
    connection.execute(
        insert(HISTORY).values(
            **words,
            groups=stated,
            who=who,
            decided_at=datetime.now(UTC).timestamp(),
            undoes=undoes,
            is_applied=False,
        )
    )
    return _rows(connection, *_about(key), most=1)[0]


def _by(decision: Decision) -> str:
    return decision.who or "somebody"

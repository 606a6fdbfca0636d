"""What the columns of the catalogue are made of, in SQLite and in PostgreSQL."""

from collections.abc import Callable, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

#: Text that both engines order by its bytes: the order of frames must not be a server's locale.
TEXT: Final = sa.String().with_variant(sa.String(collation="C"), "postgresql")
#: Pseudonyms, digests and masks: a server keeps no statistics of them, as its planner's would
#: hold what was erased (`pg_statistic` keeps the most frequent values of a column).
UNSAMPLED: Final = frozenset(
    (
        *("instance", "series", "study", "patient", "description", "term", "object", "reader"),
        *("made_of", "frame_id", "volume_id", "mask_digest", "mask_png"),
    )
)
_Insert = sqlite.Insert | postgresql.Insert
_INSERT: Final[Mapping[str, Callable[[sa.Table], _Insert]]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def insert(table: sa.Table, dialect: sa.Dialect) -> _Insert:
    """Return the INSERT that knows ``on_conflict_do_nothing``; each dialect has its own."""
    return _INSERT[dialect.name](table)


def if_absent(table: sa.Table) -> Mapping[str, sa.Insert]:
    """Return the statement that adds a row which is not there, by the name of the dialect."""
    return {name: make(table).on_conflict_do_nothing() for name, make in _INSERT.items()}

"""What lies in a database beside the store's own tables: names and comments may be a person's."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from dicom_node.store.catalogue import metadata
from dicom_node.store.finding import Finding

_IN_FILE: Final = sa.text(
    "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND type <> 'table'"
)
#: Tables are looked through one by one; what belongs to one of them goes by its own name.
_ON_SERVER: Final = sa.text("""
    WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()),
    mine AS (SELECT c.oid, relname, relkind FROM pg_class c JOIN here ON relnamespace = here.oid)
    SELECT relname FROM mine WHERE relkind <> 'r'
    UNION ALL SELECT conname FROM pg_constraint JOIN here ON connamespace = here.oid
    UNION ALL SELECT tgname FROM pg_trigger JOIN mine ON tgrelid = mine.oid WHERE NOT tgisinternal
    UNION ALL SELECT 'a default' FROM pg_attrdef JOIN mine ON adrelid = mine.oid
        WHERE pg_get_expr(adbin, adrelid) <> '0'
    UNION ALL SELECT rulename FROM pg_rewrite JOIN mine ON ev_class = mine.oid
        WHERE relkind = 'r'
    UNION ALL SELECT polname FROM pg_policy JOIN mine ON polrelid = mine.oid
    UNION ALL SELECT proname FROM pg_proc JOIN here ON pronamespace = here.oid
    UNION ALL SELECT stxname FROM pg_statistic_ext JOIN here ON stxnamespace = here.oid
    UNION ALL SELECT typname FROM pg_type JOIN here ON typnamespace = here.oid
        WHERE typrelid = 0 AND typelem = 0
""")
_COMMENTS: Final = sa.text("""
    SELECT count(*) FROM pg_description JOIN pg_class c ON objoid = c.oid
    JOIN pg_namespace n ON relnamespace = n.oid
    WHERE classoid = 'pg_class'::regclass AND nspname = current_schema()
""")


def name_of(connection: sa.Connection) -> str:
    """Return how findings call the database."""
    return "catalogue.db" if connection.dialect.name == "sqlite" else "catalogue"


def additions(connection: sa.Connection) -> Iterator[Finding]:
    """Yield what the store does not make besides tables."""
    is_file, where = connection.dialect.name == "sqlite", name_of(connection)
    known = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    if not is_file:
        known |= _named_by_server()
    for name in connection.scalars(_IN_FILE if is_file else _ON_SERVER):
        if name not in known:
            yield Finding(where=where, what="a view, trigger or index not the store's")
    if not is_file and connection.scalar(_COMMENTS):
        yield Finding(where=where, what="comments that are not the store's; set them to NULL")


def _named_by_server() -> set[str]:
    """Return the names that PostgreSQL gives to what the tables ask for."""
    names = set()
    for table in metadata.tables.values():
        names |= {f"{table.name}_pkey"}
        for column in table.columns:
            ends = ("key",) * bool(column.unique) + ("fkey",) * bool(column.foreign_keys)
            # PostgreSQL 18 gives these names
            ends += ("not_null",) * (not column.nullable)
            names |= {f"{table.name}_{column.name}_{end}" for end in ends}
    return names

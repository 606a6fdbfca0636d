"""A catalogue in PostgreSQL: one schema of a server, so that two stores may share a database.

Who writes takes the schema's advisory lock, as a SQLite file has one writer. Who reads sees one
moment, and waits for nobody.
"""

import hashlib
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import DatabaseDownError, PermanentError, StoreError
from dicom_node.store.columns import UNSAMPLED
from dicom_node.store.places import Place

#: Stands in the schema's comment; it moves when a former program would read the tables wrongly.
LAYOUT: Final = 1
_COMMENT: Final = "weak-label store of dicom-node, layout {}"
#: As long as a SQLite file is waited for.
PATIENCE_S: Final = 30.0
#: For a server that does not answer: to connect, and to acknowledge what was sent.
_CONNECT: Final = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "application_name": "dicom-node",
}
#: Transactions that may still see what was deleted before the one of the number began.
_OLDER: Final = sa.text("""
    SELECT count(*) FROM (
        SELECT greatest(age(backend_xmin), age(backend_xid)) AS age FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
        UNION ALL SELECT age(transaction) FROM pg_prepared_xacts
        WHERE database = current_database()
        UNION ALL SELECT age(xmin) FROM pg_replication_slots
    ) AS others WHERE age > age(CAST(:number AS xid8)::xid)
""")


def open_server(place: Place, metadata: sa.MetaData) -> sa.Engine:
    """Open (and make) a catalogue on a server.

    A commit that returned is durable there. A role that may only read can open one that is there.

    Parameters
    ----------
    place : Place
    metadata : sqlalchemy.MetaData
        Tables to create where they are missing.

    Raises
    ------
    DatabaseDownError
        When the server cannot be used now.
    PermanentError
        When a later version of the program wrote the schema, or the role may not make it.
    """
    engine = _engine(place)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        try:
            with engine.begin() as connection:
                _make(connection, place.schema, metadata)
        except sa.exc.ProgrammingError as exc:
            raise PermanentError(
                f"the catalogue cannot be made in {place.url} ({type(exc.orig).__name__}): GRANT "
                "CREATE ON DATABASE to its user, or name a user that may"
            ) from None
        stack.pop_all()
    return engine


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look at a server found."""

    version: str
    #: of the catalogue, None where none is
    layout: int | None
    #: whether it waits for its disk (``fsync``)
    is_durable: bool


def look(place: Place) -> Seen:
    """Look at a server, and change nothing.

    Raises
    ------
    DatabaseDownError
        When it cannot be used now.
    """
    engine = _engine(place)
    try:
        with engine.execution_options(only_reads=True).connect() as connection:
            return Seen(
                version=".".join(map(str, connection.dialect.server_version_info or ())),
                layout=layout_of(connection),
                is_durable=connection.scalar(sa.text("SHOW fsync")) == "on",
            )
    finally:
        engine.dispose()


def drop(place: Place) -> None:
    """Delete a catalogue from its server; one that is not there is none."""
    engine = _engine(place)
    try:
        with engine.begin() as connection:
            connection.execute(sa.schema.DropSchema(place.schema, cascade=True, if_exists=True))
    finally:
        engine.dispose()


def scrub(engine: sa.Engine, metadata: sa.MetaData) -> None:
    """Rewrite the tables, so that no data file of the server holds what was deleted.

    Raises
    ------
    DatabaseDownError
        When somebody reads for too long, or the server has no room for a second copy.
    """
    alone = engine.execution_options(isolation_level="AUTOCOMMIT", only_reads=True)
    with alone.connect() as connection:
        number = connection.scalar(sa.text("SELECT pg_current_xact_id()::text"))
        deadline = time.monotonic() + PATIENCE_S
        # a rewrite carries along what an older transaction may still see
        while connection.scalar(_OLDER, {"number": number}):
            if time.monotonic() > deadline:
                raise DatabaseDownError(
                    "somebody reads the server since before the erasure, and it still holds what "
                    "was deleted: end that transaction (pg_stat_activity), run the command again"
                )
            time.sleep(0.2)
        for table in metadata.sorted_tables:
            connection.exec_driver_sql(f"VACUUM (FULL) {table.name}")


def layout_of(connection: sa.Connection) -> int | None:
    """Return the layout of the catalogue in the schema of a connection, None where none is."""
    query = "SELECT obj_description(oid) FROM pg_namespace WHERE nspname = current_schema()"
    comment = connection.scalar(sa.text(query))
    found = re.fullmatch(_COMMENT.format(r"(\d+)"), comment or "")
    return int(found[1]) if found else None


def newer(found: int) -> str:
    """Say that a later version of the program made a catalogue, "" when none did."""
    if found <= LAYOUT:
        return ""
    return (
        f"the catalogue has layout {found}, this program knows {LAYOUT}: run the later version "
        "that made it, or restore the backup from before the upgrade"
    )


def _make(connection: sa.Connection, schema: str, metadata: sa.MetaData) -> None:
    names = sa.inspect(connection)
    if not names.has_schema(schema):
        connection.execute(sa.schema.CreateSchema(schema))
        connection.exec_driver_sql(f"COMMENT ON SCHEMA {schema} IS '{_COMMENT.format(LAYOUT)}'")
    found = layout_of(connection)
    if found is None:
        raise StoreError(f"schema {schema} is not the store's: restore it from its dump")
    if fault := newer(found):
        raise PermanentError(fault)
    missing = [one for one in metadata.sorted_tables if not names.has_table(one.name)]
    metadata.create_all(connection, tables=missing)
    for table in missing:
        for column in UNSAMPLED & set(table.c.keys()):
            connection.exec_driver_sql(
                f'ALTER TABLE {table.name} ALTER COLUMN "{column}" SET STATISTICS 0'
            )


def _engine(place: Place) -> sa.Engine:
    url = sa.make_url(place.url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
        hide_parameters=True,
    )
    digest = hashlib.sha256(place.schema.encode()).digest()
    turn = int.from_bytes(digest[:8], signed=True)

    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET SESSION search_path TO {place.schema}")
        cursor.execute(f"SET SESSION lock_timeout TO {PATIENCE_S * 1000:.0f}")
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        cursor.close()
        connection.commit()

    def begin(connection: sa.Connection) -> Any:
        if not connection.get_execution_options().get("only_reads", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({turn})")

    sa.event.listen(engine, "connect", prepare, insert=True)
    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "handle_error", _translate)
    return engine


def _translate(context: sa.ExceptionContext) -> None:
    """Tell a server that cannot be used now from a fault of ours."""
    if isinstance(context.sqlalchemy_exception, sa.exc.OperationalError):
        # its message may quote what libpq knows of the server
        cause = type(context.original_exception).__name__
        raise DatabaseDownError(
            f"the store's catalogue cannot be used now ({cause}): see to its PostgreSQL server, "
            "its disk, and the user and password for it (PGPASSFILE); 'dicom-node check' asks it"
        ) from None

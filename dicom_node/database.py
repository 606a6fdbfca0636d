"""Open a database the one way the node does it."""

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import DatabaseDownError


def open_sqlite(path: Path, metadata: sa.MetaData) -> sa.Engine:
    """Open (and create) a SQLite file for several threads and processes.

    Write-ahead log with ``synchronous=FULL``: a commit that returned survives a power cut. Every
    transaction begins IMMEDIATE: a deferred one that turns into a writer fails under load instead
    of waiting. The file is readable by its owner alone.

    Parameters
    ----------
    path : Path
        The database file; its folder must exist.
    metadata : sqlalchemy.MetaData
        Tables to create where they are missing.
    """
    path.touch(mode=0o600)
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": 30, "check_same_thread": False},
        hide_parameters=True,  # an error message must not quote a patient's ID
    )
    sa.event.listen(engine, "handle_error", _translate)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    metadata.create_all(engine)
    return engine


def for_reading(engine: sa.Engine) -> sa.Engine:
    """Return the same database for statements that only read: they wait for no writer."""
    return engine.execution_options(only_reads=True)


def scrub(engine: sa.Engine) -> None:
    """Rewrite a database, so that no file of it holds what was deleted: not even pages long free.

    Raises
    ------
    DatabaseDownError
        When the disk has no room for a second copy, or somebody reads for too long.
    """
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("VACUUM")
        (is_busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as exc:
        raise DatabaseDownError(
            f"what was deleted could not be wiped from the database ({exc}); "
            "free disk space, and run the command again"
        ) from None
    finally:
        connection.close()
    if is_busy:
        raise DatabaseDownError(
            "somebody reads the database, and its log still holds what was deleted; "
            "run the command again"
        )


def _translate(context: sa.ExceptionContext) -> None:
    """Tell a database that cannot be written now from a fault of ours."""
    if isinstance(context.original_exception, sqlite3.OperationalError):
        raise DatabaseDownError(
            f"the database cannot be used now ({context.original_exception}): free disk space "
            "under node.data and see that it is writable"
        ) from None


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not sqlite3's
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> Any:
    only_reads = connection.get_execution_options().get("only_reads", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

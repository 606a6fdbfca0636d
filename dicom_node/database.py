"""Open a database the one way the node does it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from dicom_node.errors import DatabaseDownError, PermanentError

#: ``PRAGMA user_version`` of the files that have no layout of their own; 0 is of a program that
#: wrote none. It moves when a former program would read a file wrongly.
LAYOUT: Final = 1


def open_sqlite(path: Path, metadata: sa.MetaData, *, layout: int | None = LAYOUT) -> sa.Engine:
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
    layout : int or None
        What the file is marked with; None leaves that to the caller.

    Raises
    ------
    PermanentError
        When a later version of the program wrote the file.
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
    if layout is not None:
        _mark(engine, path, layout)
    metadata.create_all(engine)
    return engine


def written_layout(path: Path) -> int:
    """Return the layout that a file is marked with; changes nothing.

    Raises
    ------
    sqlite3.Error
        When it cannot be read.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def newer(path: Path, found: int, layout: int) -> str:
    """Say that a later version of the program wrote a file, "" when none did."""
    if found <= layout:
        return ""
    return (
        f"{path.name} has layout {found}, this program knows {layout}: run the later version that "
        "wrote it, or restore the backup from before the upgrade"
    )


def for_reading(engine: sa.Engine) -> sa.Engine:
    """Return the same database for statements that only read.

    They wait for no writer, and those of a transaction see one state.
    """
    if engine.dialect.name != "postgresql":
        return engine.execution_options(only_reads=True)
    return engine.execution_options(
        only_reads=True, isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


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


def _mark(engine: sa.Engine, path: Path, layout: int) -> None:
    with for_reading(engine).connect() as connection:
        found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if fault := newer(path, found, layout):
        engine.dispose()
        raise PermanentError(fault)
    if found < layout:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version={layout}")


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

"""Open a database of somebody else's: read all of it, and leave nothing beside it."""

import os
import sqlite3
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from dicom_node.database import LAYOUT, for_reading, newer, open_sqlite
from dicom_node.errors import DatabaseDownError, PermanentError

#: What a file is like: who reads it as it lies sees by this that somebody wrote it meanwhile.
_Stamp = tuple[int, int, int]
#: Option of an engine of `read_sqlite`: its file.
_ONLY_READ: Final = "only_read"


def open_or_read(
    path: Path, metadata: sa.MetaData, *, updated_by: str, layout: int | None = LAYOUT
) -> sa.Engine:
    """Open a SQLite file as `open_sqlite` does, or where this may not be, as `read_sqlite`."""
    if path.exists() and not _may_write(path):
        return read_sqlite(path, metadata, updated_by=updated_by, layout=layout)
    return open_sqlite(path, metadata, layout=layout)


def read_sqlite(
    path: Path, metadata: sa.MetaData, *, updated_by: str, layout: int | None = LAYOUT
) -> sa.Engine:
    """Open a SQLite file that this account may not write, and leave nothing beside it.

    Where a log lies beside it, both are read, while somebody writes them, too. Where there is none,
    nobody has the file open: it is read as it lies, and a transaction in which it changed is an
    error at its end. A transaction that is not `for_reading` is refused.

    Parameters
    ----------
    path : Path
        The database file.
    metadata : sqlalchemy.MetaData
        Tables that it must have.
    updated_by : str
        The command that brings a file of an earlier version up to date.
    layout : int or None
        As in `open_sqlite`.

    Raises
    ------
    DatabaseDownError
        When it cannot be read now.
    PermanentError
        When this account may not read it, or another version of the program wrote it.
    """
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: _reading(path),
        # one connection a transaction: whether there is a log is seen at its begin
        poolclass=sa.NullPool,
        execution_options={_ONLY_READ: path},
        hide_parameters=True,
    )
    sa.event.listen(engine, "handle_error", _translate_reading)
    sa.event.listen(engine, "begin", _begin_reading)
    sa.event.listen(engine, "commit", _end_reading)
    with for_reading(engine).begin() as connection:
        found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
        if layout is not None and (fault := newer(path, found, layout)):
            raise PermanentError(fault)
        need_columns(connection, metadata, path.name, updated_by=updated_by)
    return engine


def need_columns(
    connection: sa.Connection, metadata: sa.MetaData, name: str, *, updated_by: str
) -> None:
    """See that a database which may not be changed has what the program reads.

    Raises
    ------
    PermanentError
        When an earlier version of the program made it.
    """
    names = sa.inspect(connection)
    for table in metadata.tables.values():
        there = (
            {column["name"] for column in names.get_columns(table.name)}
            if names.has_table(table.name)
            else set()
        )
        if not set(table.c.keys()) <= there:
            raise PermanentError(
                f"{name}: an earlier version of the program made it, and this account may not "
                f"bring it up to date; run '{updated_by}' once with an account that may write it"
            )


def only_reads(engine: sa.Engine) -> bool:
    """Whether an engine is one of `read_sqlite`."""
    return _ONLY_READ in engine.get_execution_options()


def need_writable(engine: sa.Engine) -> None:
    """See that an engine is not one of `read_sqlite`.

    Raises
    ------
    DatabaseDownError
        When it is. It stays so until the file is opened again.
    """
    path = engine.get_execution_options().get(_ONLY_READ)
    if path is not None:
        raise DatabaseDownError(
            f"{path}: this account may only read it; run this as the account that owns it, or on a "
            "copy of its folder that is yours ('chmod -R u+w')"
        )


def _may_write(path: Path) -> bool:
    """Whether this account may write a SQLite file: its log lies beside it, so its folder, too."""
    files = (path, *_beside(path))
    return os.access(path.parent, os.W_OK | os.X_OK) and all(
        os.access(one, os.R_OK | os.W_OK) for one in files if one.exists()
    )


class _Reading(sqlite3.Connection):
    """A connection that only reads."""

    #: of a file that is read as it lies
    stamp: _Stamp | None = None


def _beside(path: Path) -> tuple[Path, Path]:
    """Return SQLite's log of a file, and the log's index."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _reading(path: Path) -> _Reading:
    log, index = _beside(path)
    has_log = log.exists() and log.stat().st_size > 0
    for one in (path, log, index) if has_log else (path,):
        if one.exists() and not os.access(one, os.R_OK):
            raise PermanentError(
                f"{one}: this account may not read it; as the account that owns it, give 'chmod -R "
                "g+rX' to the folder, and share its group"
            )
    if has_log and not index.exists():
        # SQLite would have to write the index, and without the log the file is an older one
        raise PermanentError(
            f"{log}: was copied without {index.name}, and this account may not make that anew; "
            "copy the folder again while no program has it open"
        )
    stamp = _stamp(path)
    # SQLite makes neither log nor index with these
    how = "mode=ro&readonly_shm=1" if has_log else "mode=ro&immutable=1"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=30,
        check_same_thread=False,
        isolation_level=None,
        factory=_Reading,
    )
    connection.stamp = None if has_log else stamp
    return connection


def _stamp(path: Path) -> _Stamp:
    known = path.stat()
    return known.st_ino, known.st_mtime_ns, known.st_size


def _begin_reading(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get("only_reads", False):
        need_writable(connection.engine)
    connection.exec_driver_sql("BEGIN")


def _end_reading(connection: sa.Connection) -> None:
    path: Path = connection.get_execution_options()[_ONLY_READ]
    reading = connection.connection.driver_connection
    if isinstance(reading, _Reading) and reading.stamp not in (None, _stamp(path)):
        raise DatabaseDownError(
            f"{path.name}: somebody wrote it while it was read; run the command again"
        )


def _translate_reading(context: sa.ExceptionContext) -> None:
    """Say of a file that is only read what can be done."""
    if isinstance(context.original_exception, sqlite3.DatabaseError):
        raise DatabaseDownError(
            f"the database cannot be read now ({context.original_exception}): run the command "
            "again; a share of another machine is read while no program has it open there"
        ) from None

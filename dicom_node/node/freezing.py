"""One moment of several SQLite files: what a power cut would leave, which the node can start from.

For some milliseconds nobody can write. Snapshots of all files are opened in that time, and read
while the node writes on.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from dicom_node.errors import DatabaseDownError

#: For one file; whoever writes waits for longer than for all of them together.
_PATIENCE_S: Final = 0.25
#: A file that somebody writes to for long is asked for again.
_DEADLINE_S: Final = 60.0


@contextmanager
def frozen(
    paths: Sequence[Path], *, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Mapping[Path, sqlite3.Connection]]:
    """Open snapshots of one moment.

    Parameters
    ----------
    paths : sequence of Path
        SQLite files with a write-ahead log.
    meanwhile : callable
        Called in the moment in which nobody writes.

    Yields
    ------
    mapping of Path to sqlite3.Connection
        Each in a transaction that reads the moment.

    Raises
    ------
    DatabaseDownError
        When one of them is written to without a pause, or is no database.
    """
    with ExitStack() as stack:
        with _held(paths):
            snapshots = {path: stack.enter_context(_opened(path)) for path in paths}
            for connection in snapshots.values():
                connection.execute("BEGIN")
                # only the first look takes the snapshot
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            meanwhile()
        yield snapshots


def copy(snapshot: sqlite3.Connection, target: Path) -> None:
    """Write a snapshot into a new file, readable by its owner alone."""
    target.touch(mode=0o600)
    with closing(sqlite3.connect(target)) as connection:
        snapshot.backup(connection)


@contextmanager
def _held(paths: Sequence[Path]) -> Iterator[None]:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        with ExitStack() as stack:
            name = ""
            try:
                for path in paths:
                    name = path.name
                    stack.enter_context(_opened(path)).execute("BEGIN IMMEDIATE")
            except sqlite3.Error as exc:
                if time.monotonic() > deadline or not isinstance(exc, sqlite3.OperationalError):
                    raise DatabaseDownError(
                        f"{name} is written to without a pause, or is damaged ({exc}): "
                        "try again, or stop the node first"
                    ) from None
            else:
                yield
                return
        # all are let go before the next try: their closing ends their transactions
        time.sleep(_PATIENCE_S)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)
    except sqlite3.OperationalError as exc:
        raise DatabaseDownError(
            f"{path.name} cannot be opened ({exc}): see who may read it"
        ) from None
    with closing(connection):
        yield connection

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dicom_node.errors import DatabaseDownError
from dicom_node.node import freezing
from dicom_node.node.freezing import copy, frozen
from tests.support.nodes import until


def database(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE counter (value INTEGER)")
        connection.execute("INSERT INTO counter VALUES (0)")
        connection.commit()
    return path


def value(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT value FROM counter").fetchone()[0])


@contextmanager
def counting(*paths: Path) -> Iterator[list[int]]:
    """Raise the counters in turn, the first before the second; yield what both were raised to."""
    stop, done = threading.Event(), [0]

    def count() -> None:
        connections = [sqlite3.connect(path, timeout=30) for path in paths]
        while not stop.is_set():
            for connection in connections:
                connection.execute("UPDATE counter SET value = value + 1")
                connection.commit()
            done.append(done[-1] + 1)
        for connection in connections:
            connection.close()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def test_copies_of_several_databases_are_of_one_moment_and_nobody_is_held_up(
    tmp_path: Path,
) -> None:
    first, second = database(tmp_path / "first.db"), database(tmp_path / "second.db")
    with counting(first, second) as done:
        for number in range(5):
            targets = {path: tmp_path / f"{number}-{path.name}" for path in (first, second)}
            before = done[-1]
            with frozen([first, second]) as snapshots:
                # it counts on before they are copied
                until(lambda before=before: done[-1] >= before + 10)
                for path, snapshot in snapshots.items():
                    copy(snapshot, targets[path])
            ahead, behind = value(targets[first]), value(targets[second])
            assert 0 <= ahead - behind <= 1
            assert before <= behind < done[-1]


def test_nobody_writes_in_the_moment(tmp_path: Path) -> None:
    path, seen = database(tmp_path / "a.db"), []

    def try_to_write() -> None:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            with pytest.raises(sqlite3.OperationalError):
                connection.execute("UPDATE counter SET value = 9")
            seen.append(value(path))

    with frozen([path], meanwhile=try_to_write):
        pass
    assert seen == [0]


def test_a_copy_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    (tmp_path / "copies").mkdir()
    with frozen([path]) as snapshots:
        copy(snapshots[path], tmp_path / "copies" / "a.db")
    [found] = (tmp_path / "copies").iterdir()
    assert found.stat().st_mode & 0o077 == 0


def test_a_database_that_another_program_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_DEADLINE_S", 0.1)
    path = database(tmp_path / "index.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(DatabaseDownError, match=r"index\.db is written to without a pause"),
            frozen([path]),
        ):
            pass


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database at all" * 100)
    with (
        pytest.raises(DatabaseDownError, match=r"index\.db .*damaged"),
        frozen([tmp_path / "index.db"]),
    ):
        pass

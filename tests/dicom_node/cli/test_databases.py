import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.cli.databases import databases
from dicom_node.config import Config, NodeSettings
from dicom_node.index import Index
from dicom_node.outbox import Outbox


def node_in(folder: Path, database: str | None = None) -> Config:
    return Config(node=NodeSettings(data=folder), database=database)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    Index(tmp_path / "index.db").close()
    Outbox(tmp_path / "outbox.db", tmp_path / "results").close()
    yield tmp_path


def mark(path: Path, layout: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={layout}")


def test_a_node_that_never_ran_has_none(tmp_path: Path) -> None:
    assert databases(node_in(tmp_path)) == [
        ("databases", "", "none yet: the first start makes them")
    ]
    assert list(tmp_path.iterdir()) == []


def test_those_that_are_there_are_named(data: Path) -> None:
    assert databases(node_in(data)) == [("databases", "", "index.db, outbox.db can be used")]


def test_one_of_a_later_version_is_a_fault_with_the_cure(data: Path) -> None:
    mark(data / "outbox.db", 99)
    [(_, fault, _)] = databases(node_in(data))
    assert "outbox.db has layout 99, this program knows 1: run the later version" in fault


def test_one_that_the_next_start_changes_is_told_and_left_as_it_is(data: Path) -> None:
    mark(data / "index.db", 1)
    [(_, fault, found)] = databases(node_in(data))
    assert fault == ""
    assert "brings index.db up to date: take a backup before" in found
    assert databases(node_in(data)) == [("databases", fault, found)]


def test_one_that_is_damaged_is_a_fault(data: Path) -> None:
    for path in data.glob("index.db*"):
        path.unlink()
    (data / "index.db").write_bytes(b"no database " * 100)
    (data / "jobs.db").write_bytes(b"no database " * 100)
    [(_, fault, _), (_, jobs_fault, _)] = databases(node_in(data))
    assert "index.db cannot be read" in fault
    assert "jobs.db cannot be read" in jobs_fault


@pytest.mark.alone
def test_a_server_that_gives_no_answer_is_a_fault_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://user:secret@127.0.0.1:1/name"
    [_, (what, fault, _)] = databases(node_in(tmp_path, url))
    assert what == "jobs"
    assert "the server gives no answer" in fault
    assert "secret" not in fault


def test_a_server_tells_its_version_and_whether_it_has_the_tables(
    postgres_url: str, tmp_path: Path
) -> None:
    [_, (_, fault, found)] = databases(node_in(tmp_path, postgres_url))
    assert fault == ""
    assert "the first start makes its tables" in found

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.database import for_reading, open_sqlite
from dicom_node.errors import DatabaseDownError, PermanentError
from dicom_node.read_only import open_or_read, read_sqlite

METADATA = sa.MetaData()
UPDATED_BY = "dicom-node words list"
WORDS = sa.Table("words", METADATA, sa.Column("word", sa.String, primary_key=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database with one word, that nobody has open."""
    engine = open_sqlite(tmp_path / "words.db", METADATA)
    add(engine, "first")
    engine.dispose()
    return tmp_path / "words.db"


def add(engine: sa.Engine, word: str) -> None:
    with engine.begin() as connection:
        connection.execute(WORDS.insert().values(word=word))


def words(engine: sa.Engine) -> set[str]:
    with for_reading(engine).begin() as connection:
        return set(connection.scalars(sa.select(WORDS.c.word)))


@pytest.fixture
def reader(path: Path) -> Iterator[sa.Engine]:
    engine = read_sqlite(path, METADATA, updated_by=UPDATED_BY)
    yield engine
    engine.dispose()


def test_reading_leaves_nothing_beside_a_file(path: Path, reader: sa.Engine) -> None:
    assert words(reader) == {"first"}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_somebody_writes_meanwhile_is_seen_transaction_by_transaction(
    path: Path, reader: sa.Engine
) -> None:
    writer = open_sqlite(path, METADATA)
    add(writer, "second")
    assert path.with_name("words.db-wal").stat().st_size
    assert words(reader) == {"first", "second"}
    with for_reading(reader).begin() as connection:
        query = sa.select(sa.func.count()).select_from(WORDS)
        assert connection.scalar(query) == 2
        add(writer, "third")
        assert connection.scalar(query) == 2, "one state"
    writer.dispose()
    assert words(reader) == {"first", "second", "third"}


def test_a_file_that_changed_while_it_was_read_as_it_lies_is_no_answer(
    path: Path, reader: sa.Engine
) -> None:
    with (
        pytest.raises(DatabaseDownError, match="wrote it while it was read; run the command again"),
        for_reading(reader).begin() as connection,
    ):
        connection.scalar(sa.select(WORDS.c.word))
        writer = open_sqlite(path, METADATA)
        add(writer, "second")
        writer.dispose()  # brings its log into the file
    assert words(reader) == {"first", "second"}


def test_what_writes_is_refused_with_the_cure(reader: sa.Engine) -> None:
    with pytest.raises(
        DatabaseDownError, match=r"words.db: this account may only read it; run this"
    ):
        add(reader, "second")
    with pytest.raises(DatabaseDownError), for_reading(reader).begin() as connection:
        connection.execute(WORDS.insert().values(word="second"))
    assert words(reader) == {"first"}


def test_a_log_without_its_index_is_no_older_file(path: Path, tmp_path: Path) -> None:
    writer = open_sqlite(path, METADATA)
    add(writer, "second")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("words.db", "words.db-wal"):
        (copy / name).write_bytes(path.with_name(name).read_bytes())
    with pytest.raises(PermanentError, match=r"copied without words.db-shm.*copy the folder again"):
        read_sqlite(copy / "words.db", METADATA, updated_by=UPDATED_BY)
    (copy / "words.db-shm").write_bytes(path.with_name("words.db-shm").read_bytes())
    assert words(read_sqlite(copy / "words.db", METADATA, updated_by=UPDATED_BY)) == {
        "first",
        "second",
    }
    writer.dispose()


@pytest.mark.parametrize("change", ["DROP TABLE words", "ALTER TABLE words DROP COLUMN note"])
def test_a_file_of_an_earlier_version_says_who_brings_it_up_to_date(
    path: Path, change: str
) -> None:
    metadata = sa.MetaData()
    columns = (sa.Column("word", sa.String), sa.Column("note", sa.String))
    sa.Table("words", metadata, *columns)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE words ADD COLUMN note TEXT")
        connection.execute(change)
        connection.commit()
    with pytest.raises(
        PermanentError, match=f"an earlier version of the program made it.*run '{UPDATED_BY}' once"
    ):
        read_sqlite(path, metadata, updated_by=UPDATED_BY)


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(PermanentError, match="layout 99"):
        read_sqlite(path, METADATA, updated_by=UPDATED_BY)


def test_who_may_write_opens_a_file_for_writing(path: Path) -> None:
    if not os.access(path, os.W_OK):
        pytest.skip("the folder of the test is read-only")
    engine = open_or_read(path, METADATA, updated_by=UPDATED_BY)
    add(engine, "second")
    assert words(engine) == {"first", "second"}
    engine.dispose()

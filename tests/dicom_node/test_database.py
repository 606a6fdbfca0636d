import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.database import LAYOUT, for_reading, open_sqlite, written_layout
from dicom_node.errors import DatabaseDownError, PermanentError

METADATA = sa.MetaData()
PATIENT = sa.Table("patient", METADATA, sa.Column("patient_id", sa.String, primary_key=True))
INSERT = sa.insert(PATIENT).values(patient_id="SECRET^NAME")


def test_an_error_never_quotes_what_was_to_be_written(tmp_path: Path) -> None:
    engine = open_sqlite(tmp_path / "a.db", METADATA)
    with engine.begin() as connection:
        connection.execute(INSERT)
    with pytest.raises(sa.exc.IntegrityError) as caught, engine.begin() as connection:
        connection.execute(INSERT)
    assert "SECRET" not in str(caught.value)
    engine.dispose()


def test_a_database_without_room_may_work_later(tmp_path: Path) -> None:
    engine = open_sqlite(tmp_path / "a.db", METADATA)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
        with pytest.raises(DatabaseDownError, match="free disk space"):
            for number in range(10_000):
                connection.execute(sa.insert(PATIENT).values(patient_id=str(number) * 100))
    engine.dispose()


def test_a_reader_waits_for_no_writer(tmp_path: Path) -> None:
    engine = open_sqlite(tmp_path / "a.db", METADATA)
    with engine.begin() as writing:
        writing.execute(INSERT)
        with for_reading(engine).connect() as reading:
            assert reading.execute(sa.select(PATIENT)).all() == []
    engine.dispose()


def test_the_file_belongs_to_its_owner_alone_and_keeps_a_write_ahead_log(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "a.db", METADATA).dispose()
    assert (tmp_path / "a.db").stat().st_mode & 0o077 == 0
    connection = sqlite3.connect(tmp_path / "a.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_database_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    open_sqlite(tmp_path / "a.db", METADATA).dispose()
    assert written_layout(tmp_path / "a.db") == LAYOUT
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(PermanentError, match=r"a\.db has layout 1, this program knows 0: run the"):
        open_sqlite(tmp_path / "a.db", METADATA, layout=0)
    assert (tmp_path / "a.db").read_bytes() == before

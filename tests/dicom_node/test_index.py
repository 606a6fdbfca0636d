import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.errors import PermanentError
from dicom_node.index import Arrival, CompletionRow, Index, Outcome, StudyState
from dicom_node.records import Instance

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


def arrival(number: int, folder: Path, *, study: str = "1.2.3", after_s: float = 0) -> Arrival:
    file_id = f"{number:024x}"
    return Arrival(
        instance=Instance(
            sop_instance_uid=f"{study}.1.{number}",
            sop_class_uid=US_IMAGE,
            series_instance_uid=f"{study}.1",
            study_instance_uid=study,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            file_id=file_id,
            path=folder / "inbox" / "kept" / file_id[-2:] / f"{file_id}.dcm",
            sha256=f"{number:064x}",
            size_bytes=100,
            received_at=NOON + timedelta(seconds=after_s),
        ),
        patient_id="P-1",
    )


def change(given: Arrival, **fields: object) -> Arrival:
    return replace(given, instance=replace(given.instance, **fields))  # type: ignore[arg-type]


def complete(index: Index, study: str = "1.2.3") -> int:
    return index.complete(study, reason="quiet", evidence={"quiet_s": 30}, now=NOON)


def test_what_was_registered_is_read_back_equal(index: Index, tmp_path: Path) -> None:
    arrivals = [arrival(n, tmp_path, after_s=n) for n in range(3)]
    assert index.register(arrivals) == [Outcome.NEW] * 3
    assert index.instances("1.2.3") == [a.instance for a in arrivals]
    assert index.find("1.2.3.1.1") == arrivals[1].instance
    assert index.find("9.9") is None


def test_the_data_folder_may_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    index = Index(old / "index.db")
    index.register([arrival(1, old)])
    index.close()
    old.rename(new)
    moved = Index(new / "index.db")
    assert moved.instances("1.2.3")[0].path.is_relative_to(new)
    moved.close()


def test_registering_the_same_file_again_changes_nothing(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    complete(index)
    before = index.studies(9)
    assert index.register([arrival(1, tmp_path)]) == [Outcome.NEW]
    assert index.studies(9) == before


def test_the_same_bytes_in_another_file_are_a_duplicate(index: Index, tmp_path: Path) -> None:
    first = arrival(1, tmp_path)
    again = change(first, file_id="f" * 24, received_at=NOON + timedelta(days=1))
    assert index.register([first, again]) == [Outcome.NEW, Outcome.DUPLICATE]
    complete(index)
    assert index.register([again]) == [Outcome.DUPLICATE]
    row = index.studies(9)[0]
    assert (row.state, row.instances, row.last_received_at) == (StudyState.COMPLETE, 1, NOON)


def test_other_bytes_under_the_same_uid_are_a_conflict(index: Index, tmp_path: Path) -> None:
    first = arrival(1, tmp_path)
    other = change(first, file_id="f" * 24, sha256="0" * 64)
    assert index.register([first, other]) == [Outcome.NEW, Outcome.CONFLICT]
    assert index.register([other]) == [Outcome.CONFLICT]
    assert index.instances("1.2.3") == [first.instance]


def test_a_study_is_due_once_nothing_came_for_the_quiet_time(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path), arrival(2, tmp_path, after_s=10)])
    index.register([arrival(3, tmp_path, study="4.5", after_s=5)])
    assert index.due(NOON + timedelta(seconds=34), 30) == []
    assert index.due(NOON + timedelta(seconds=35), 30) == ["4.5"]
    assert index.due(NOON + timedelta(seconds=40), 30) == ["4.5", "1.2.3"]
    complete(index, "4.5")
    assert index.due(NOON + timedelta(seconds=40), 30) == ["1.2.3"]


def test_due_reads_an_index_and_never_walks_the_tables(index: Index, tmp_path: Path) -> None:
    statements: list[str] = []
    sa.event.listen(
        index._engine,
        "before_cursor_execute",
        lambda *args: statements.append(str(args[2])),
    )
    index.due(NOON, 30)
    with index._engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[-1]}", ("open", 0)).all()
    assert "INDEX study_by_state" in plan[0][3]
    assert not any(row[3].startswith("SCAN") for row in plan)


def test_completion_remembers_why_and_counts_revisions(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    assert complete(index) == 1
    assert complete(index) == 1
    row = index.study("1.2.3")
    assert row is not None
    assert (row.state, row.revision, row.reason) == (StudyState.COMPLETE, 1, "quiet")
    assert (row.completed_at, row.evidence) == (NOON, {"quiet_s": 30})


def test_every_completion_of_a_study_stays_known(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path), arrival(9, tmp_path, study="4.5")])
    assert index.completions("1.2.3") == []
    complete(index)
    complete(index, "4.5")
    index.register([arrival(2, tmp_path, after_s=99)])
    later = NOON + timedelta(seconds=130)
    index.complete("1.2.3", reason="word", evidence={"listed": 2}, now=later)
    assert index.completions("1.2.3") == [
        CompletionRow(revision=1, completed_at=NOON, reason="quiet", evidence={"quiet_s": 30}),
        CompletionRow(revision=2, completed_at=later, reason="word", evidence={"listed": 2}),
    ]


def test_of_an_index_without_a_history_the_last_completions_are_kept(tmp_path: Path) -> None:
    former = Index(tmp_path / "index.db")
    former.register([arrival(1, tmp_path), arrival(9, tmp_path, study="4.5")])
    complete(former)
    expected = former.completions("1.2.3")
    former.close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("DROP TABLE completion")
        connection.execute("PRAGMA user_version=1")
    for _ in range(2):
        opened = Index(tmp_path / "index.db")
        assert opened.completions("1.2.3") == expected
        assert opened.completions("4.5") == []
        opened.close()


def test_a_late_image_reopens_its_study(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    complete(index)
    index.register([arrival(2, tmp_path, after_s=99)])
    row = index.study("1.2.3")
    assert row is not None
    assert (row.state, row.revision) == (StudyState.OPEN, 1)
    assert index.due(NOON + timedelta(seconds=200), 30) == ["1.2.3"]
    assert complete(index) == 2


def test_a_result_that_comes_back_reopens_nothing(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    complete(index)
    index.register([change(arrival(2, tmp_path), sop_class_uid=COMPREHENSIVE_SR)])
    row = index.study("1.2.3")
    assert row is not None
    assert (row.state, row.instances) == (StudyState.COMPLETE, 2)


def test_completing_an_unknown_study_says_so(index: Index) -> None:
    with pytest.raises(PermanentError, match="no study"):
        complete(index, "9.9")
    assert index.study("9.9") is None


def test_counts_and_unknown_files(index: Index, tmp_path: Path) -> None:
    arrivals = [arrival(n, tmp_path) for n in range(1200)]
    index.register(arrivals)
    index.register([arrival(2000, tmp_path, study="4.5")])
    complete(index)
    assert index.counts() == {
        "studies_open": 1,
        "studies_complete": 1,
        "series": 2,
        "instances": 1201,
        "bytes": 120100,
    }
    ids = [a.instance.file_id for a in arrivals]
    assert index.unknown([*ids, "a" * 24]) == ["a" * 24]
    assert index.register(arrivals) == [Outcome.NEW] * 1200


def test_a_row_can_stand_for_another_file(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    index.repoint("1.2.3.1.1", file_id="f" * 24, path=tmp_path / "f.dcm")
    found = index.find("1.2.3.1.1")
    assert found is not None
    assert (found.file_id, found.path) == ("f" * 24, tmp_path / "f.dcm")


def test_the_file_is_readable_by_its_owner_alone(index: Index, tmp_path: Path) -> None:
    index.register([arrival(1, tmp_path)])
    for path in tmp_path.glob("index.db*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_tally_follows_what_is_registered_and_replaced(index: Index, tmp_path: Path) -> None:
    first, second = arrival(1, tmp_path), arrival(2, tmp_path, study="1.2.4")
    index.register([first, second, change(first, file_id="f" * 24)])
    index.replace(change(first, file_id="e" * 24, size_bytes=250))
    complete(index, "1.2.4")
    assert index.counts() == {
        "studies_open": 1,
        "studies_complete": 1,
        "series": 2,
        "instances": 2,
        "bytes": 350,
    }


def test_an_index_without_a_tally_is_counted_once_when_it_is_opened(tmp_path: Path) -> None:
    former = Index(tmp_path / "index.db")
    former.register([arrival(number, tmp_path) for number in range(3)])
    expected = former.counts()
    former.close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("DROP TABLE tally")
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        for (trigger,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
    opened = Index(tmp_path / "index.db")
    assert opened.counts() == expected
    opened.register([arrival(9, tmp_path)])
    assert opened.counts()["instances"] == 4
    opened.close()


def test_the_latest_studies_come_from_every_state(index: Index, tmp_path: Path) -> None:
    for number in range(6):
        index.register([arrival(number, tmp_path, study=f"1.2.{number}", after_s=number)])
    complete(index, "1.2.4")
    complete(index, "1.2.1")
    found = [row.study_instance_uid for row in index.studies(3)]
    assert found == ["1.2.5", "1.2.4", "1.2.3"]


def test_unknown_files_are_named_in_the_order_given(index: Index, tmp_path: Path) -> None:
    index.register([arrival(number, tmp_path) for number in range(0, 2000, 2)])
    asked = [f"{number:024x}" for number in range(1999, -1, -1)]
    assert index.unknown(asked) == asked[::2]
    assert index.unknown([]) == []

"""What the index keeps of notices and of commitments, and files of a former layout."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.database import open_sqlite
from dicom_node.errors import PermanentError
from dicom_node.inbox import new_file_id
from dicom_node.index import CommitmentState, Index
from dicom_node.index.commitments import LEASE_S
from dicom_node.index.tables import APART, INSTANCE, SERIES, STUDY
from dicom_node.records import Notice, NoticeKind, Reference

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


def request(*numbers: int, uid: str = "1.9", received_at: datetime = NOON) -> Notice:
    return Notice(
        file_id=new_file_id(),
        kind=NoticeKind.COMMITMENT,
        calling_ae_title="MODALITY1",
        host="192.0.2.1",
        uid=uid,
        status="",
        study_instance_uids=(),
        references=tuple(
            Reference(sop_class_uid=US_IMAGE, sop_instance_uid=f"1.5.{number}")
            for number in numbers
        ),
        received_at=received_at,
    )


def test_a_request_is_owed_a_report_on_what_it_lists(index: Index) -> None:
    notice = request(2, 1)
    index.evidence.take(notice)
    [row] = index.commitments.due(NOON)
    assert (row.file_id, row.transaction_uid) == (notice.file_id, "1.9")
    assert (row.ae_title, row.host, row.instances) == ("MODALITY1", "192.0.2.1", 2)
    assert set(index.commitments.references(row.file_id)) == set(notice.references)


def test_requests_are_counted_in_the_order_of_their_taking(index: Index) -> None:
    index.evidence.take(request(1))
    swept = index.evidence.serial()
    index.evidence.take(request(2, uid="1.10"))
    first, second = index.commitments.due(NOON)
    assert first.serial == swept < second.serial


def test_a_report_that_was_handed_out_is_due_again_only_after_its_lease(index: Index) -> None:
    notice = request(1)
    index.evidence.take(notice)
    index.commitments.lease([notice.file_id], NOON)
    assert index.commitments.due(NOON + timedelta(seconds=LEASE_S - 1)) == []
    [row] = index.commitments.due(NOON + timedelta(seconds=LEASE_S))
    assert row.attempts == 1


def test_a_request_that_is_made_again_is_reported_again(index: Index) -> None:
    first, second = request(1), request(1, 2)
    index.evidence.take(first)
    index.commitments.settle(first.file_id, CommitmentState.REPORTED, reason="")
    index.evidence.take(second)
    assert index.commitments.find(first.file_id) is None
    [row] = index.commitments.latest(9)
    assert (row.state, row.instances, row.attempts) == (CommitmentState.WAITING, 2, 0)


def test_what_was_reported_is_not_put_off_any_more(index: Index) -> None:
    notice = request(1)
    index.evidence.take(notice)
    index.commitments.settle(notice.file_id, CommitmentState.REPORTED, reason="")
    index.commitments.postpone(notice.file_id, reason="late", due_at=NOON)
    index.commitments.settle(notice.file_id, CommitmentState.GIVEN_UP, reason="")
    assert index.commitments.due(NOON) == []
    assert index.commitments.counts() == {
        CommitmentState.WAITING: 0,
        CommitmentState.REPORTED: 1,
        CommitmentState.GIVEN_UP: 0,
    }


def test_old_words_are_forgotten_and_owed_reports_are_not(index: Index) -> None:
    old = NOON - timedelta(days=31)
    owed, settled = request(1, received_at=old), request(2, uid="1.10", received_at=old)
    for notice in (owed, settled, request(3, uid="1.11")):
        index.evidence.take(notice)
    index.commitments.settle(settled.file_id, CommitmentState.REPORTED, reason="")
    assert index.evidence.forget(NOON - timedelta(days=30)) == 1
    assert {row.transaction_uid for row in index.commitments.latest(9)} == {"1.9", "1.11"}
    assert index.commitments.references(settled.file_id) == []


def test_a_serial_is_never_given_twice(index: Index) -> None:
    index.evidence.take(request(1, received_at=NOON - timedelta(days=31)))
    first = index.evidence.serial()
    index.commitments.settle(
        index.commitments.latest(1)[0].file_id, CommitmentState.REPORTED, reason=""
    )
    index.evidence.forget(NOON)
    index.evidence.take(request(2, uid="1.10"))
    assert index.evidence.serial() > first


def former_layout(path: Path) -> None:
    """Write an index as the first version of the program did."""
    engine = open_sqlite(path, sa.MetaData(), layout=None)
    for table in (STUDY, SERIES, INSTANCE, APART):
        table.create(engine)
    with engine.begin() as connection:
        for study, state in (("1.1", "open"), ("1.2", "complete")):
            connection.execute(
                sa.insert(STUDY).values(
                    study_instance_uid=study,
                    patient_id="P",
                    state=state,
                    revision=1,
                    finished=1,
                    first_received_us=1_000_000,
                    last_received_us=2_000_000,
                    completed_us=None,
                    reason="",
                    evidence={},
                )
            )
            connection.execute(
                sa.insert(INSTANCE).values(
                    sop_instance_uid=f"{study}.5",
                    sop_class_uid=US_IMAGE,
                    series_instance_uid=f"{study}.3",
                    study_instance_uid=study,
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    file_id=study.replace(".", "0").zfill(24),
                    path="x.dcm",
                    sha256="0" * 64,
                    size_bytes=1,
                    received_us=1_000_000,
                )
            )
    engine.dispose()


def test_an_index_of_the_former_layout_opens_and_goes_on(tmp_path: Path) -> None:
    former_layout(tmp_path / "index.db")
    for _ in range(2):
        index = Index(tmp_path / "index.db")
        assert index.overdue(NOON, 60) == ["1.1"]
        word = index.evidence.word(NoticeKind.COMMITMENT, "1.1")
        assert word.ae_titles == ()
        assert index.counts()["instances"] == 2
        index.close()
    index = Index(tmp_path / "index.db")
    index.evidence.take(
        Notice(
            **vars(request())
            | {"references": (Reference(sop_class_uid=US_IMAGE, sop_instance_uid="1.1.5"),)}
        )
    )
    assert index.evidence.word(NoticeKind.COMMITMENT, "1.1").is_complete
    index.close()


def test_an_index_of_a_later_layout_is_refused_with_the_cure(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.db")
    with index._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version=99")
    index.close()
    with pytest.raises(PermanentError, match="later version"):
        Index(tmp_path / "index.db")


def test_a_word_is_found_by_indexes_and_never_by_walking_a_table(index: Index) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(
        index._engine,
        "before_cursor_execute",
        lambda *args: statements.append((str(args[2]), tuple(args[3]))),
    )
    index.evidence.take(request(1))
    statements.clear()
    index.evidence.spoken_of(["1.1"])
    index.evidence.word(NoticeKind.COMMITMENT, "1.1")
    with index._engine.connect() as connection:
        for statement, values in statements:
            if statement.startswith("SELECT"):
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                scans = [
                    row[3]
                    for row in plan
                    if row[3].startswith(
                        ("SCAN said", "SCAN listed", "SCAN instance", "SCAN fresh")
                    )
                ]
                assert scans == [], statement

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.config import Caller, NodeSettings
from dicom_node.deliver import report_commitments
from dicom_node.deliver.commitment import GIVE_UP_AFTER, outcome_of
from dicom_node.inbox import new_file_id
from dicom_node.index import Arrival, CommitmentRow, CommitmentState, Index
from dicom_node.receive.storing import StoreCommand, file_meta
from dicom_node.records import Instance, Notice, NoticeKind, Reference
from tests.support.requesters import Requester, requester

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index.db")
    yield index
    index.close()


@pytest.fixture
def modality(free_port: Callable[[], int]) -> Iterator[Requester]:
    with requester(free_port()) as running:
        yield running


def kept(folder: Path, number: int) -> Instance:
    """Write a small file and return what the index would know of it."""
    uid, body = f"1.5.{number}", b"\x08\x00\x60\x00CS\x02\x00US"
    command = StoreCommand(
        sop_class_uid=US_IMAGE,
        sop_instance_uid=uid,
        abstract_syntax_uid=US_IMAGE,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="PEER",
    )
    path = folder / f"{number}.dcm"
    path.write_bytes(file_meta(command) + body)
    return Instance(
        sop_instance_uid=uid,
        sop_class_uid=US_IMAGE,
        series_instance_uid="1.3",
        study_instance_uid="1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_id=f"{number:024x}",
        path=path,
        sha256="0" * 64,
        size_bytes=len(body),
        received_at=datetime.now(UTC),
    )


def reference(number: int, sop_class_uid: str = US_IMAGE) -> Reference:
    return Reference(sop_class_uid=sop_class_uid, sop_instance_uid=f"1.5.{number}")


def ask(
    index: Index, *references: Reference, age: timedelta = timedelta(), uid: str = "1.9"
) -> str:
    """Let the index know a request; return its file id."""
    notice = Notice(
        file_id=new_file_id(),
        kind=NoticeKind.COMMITMENT,
        calling_ae_title="MODALITY1",
        host="127.0.0.1",
        uid=uid,
        status="",
        study_instance_uids=(),
        references=references,
        received_at=datetime.now(UTC) - age,
    )
    index.evidence.take(notice)
    return notice.file_id


def report(index: Index, file_id: str, port: int | None) -> tuple[dict[str, int], CommitmentRow]:
    """Make an attempt as a job does."""
    counts = report_all(index, [file_id], port)
    row = index.commitments.find(file_id)
    assert row is not None
    return counts, row


def report_all(index: Index, file_ids: list[str], port: int | None) -> dict[str, int]:
    index.commitments.lease(file_ids, datetime.now(UTC))
    callers = (Caller(ae_title="MODALITY1", port=port),)
    settings = NodeSettings(ae_title="NODE", callers=callers, network_timeout_s=5.0)
    return report_commitments(index, settings, file_ids, rng=random.Random(0))


def test_each_instance_is_kept_or_has_its_reason(tmp_path: Path) -> None:
    whole, short, gone = (kept(tmp_path, number) for number in range(3))
    short.path.write_bytes(short.path.read_bytes()[:-1])
    gone.path.unlink()
    found = {instance.sop_instance_uid: instance for instance in (whole, short, gone)}
    listed = [reference(0), reference(1), reference(2), reference(3), reference(0, "1.2.3")]
    assert [reason for _, reason in outcome_of(listed, found)] == [
        None,
        0x0110,
        0x0110,
        0x0112,
        0x0119,
    ]


def test_a_report_that_was_heard_is_not_made_again(
    index: Index, modality: Requester, tmp_path: Path
) -> None:
    index.register([Arrival(instance=kept(tmp_path, 0), patient_id="")])
    file_id = ask(index, reference(0))
    counts, row = report(index, file_id, modality.port)
    assert counts == {"listed": 1, "failed": 0}
    assert row.state is CommitmentState.REPORTED
    assert report(index, file_id, modality.port)[0] == {}
    assert [heard.event_type for heard in modality.reports] == [1]


@pytest.mark.parametrize("case", ["refused", "nobody there", "no port"])
def test_a_report_that_was_not_heard_is_made_later(
    index: Index, modality: Requester, free_port: Callable[[], int], case: str
) -> None:
    modality.answer = lambda: 0x0110
    ports = {"refused": modality.port, "nobody there": free_port(), "no port": None}
    file_id = ask(index, reference(0))
    began = datetime.now(UTC)
    _, row = report(index, file_id, ports[case])
    assert (row.state, row.attempts) == (CommitmentState.WAITING, 1)
    assert row.reason
    assert index.commitments.due(began + timedelta(seconds=20)) == []
    assert len(index.commitments.due(began + timedelta(seconds=60))) == 1


def test_after_a_day_a_report_is_given_up_with_a_word_in_the_log(
    index: Index, free_port: Callable[[], int]
) -> None:
    file_id = ask(index, reference(0), age=GIVE_UP_AFTER + timedelta(minutes=1))
    with capture_logs() as logs:
        _, row = report(index, file_id, free_port())
    assert row.state is CommitmentState.GIVEN_UP
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "commitment given up"
    ]
    assert index.commitments.due(datetime.now(UTC) + timedelta(days=9)) == []


def test_a_report_on_ten_thousand_instances_arrives_whole(
    index: Index, modality: Requester
) -> None:
    file_id = ask(index, *(reference(number + 10**40) for number in range(10_000)))
    counts, _ = report(index, file_id, modality.port)
    assert counts == {"listed": 10_000, "failed": 10_000}
    assert len(modality.reports[0].failed) == 10_000


def test_fifty_reports_go_over_one_association_in_the_order_of_their_requests(
    index: Index, modality: Requester, tmp_path: Path
) -> None:
    index.register(
        [Arrival(instance=kept(tmp_path, number), patient_id="") for number in range(50)]
    )
    uids = [f"1.9.{number}" for number in range(50)]
    file_ids = [ask(index, reference(number), uid=uid) for number, uid in enumerate(uids)]
    assert report_all(index, file_ids, modality.port) == {"listed": 50, "failed": 0}
    assert [heard.transaction_uid for heard in modality.reports] == uids
    assert modality.associations == 1
    assert index.commitments.counts()[CommitmentState.REPORTED] == 50
    assert report_all(index, file_ids, modality.port) == {}


def test_a_report_that_is_refused_holds_no_other_one_back(
    index: Index, modality: Requester
) -> None:
    answers = iter([0x0000, 0x0110, 0x0000])
    modality.answer = lambda: next(answers)
    file_ids = [ask(index, reference(0), uid=f"1.9.{number}") for number in range(3)]
    counts = report_all(index, file_ids, modality.port)
    assert counts == {"listed": 3, "failed": 3, "put_off": 1}
    rows = [index.commitments.find(file_id) for file_id in file_ids]
    assert [row and row.state.value for row in rows] == ["reported", "waiting", "reported"]


def test_a_request_that_is_made_anew_before_its_turn_gets_no_empty_report(
    index: Index, modality: Requester
) -> None:
    file_ids = [ask(index, reference(0), uid="1.8"), ask(index, reference(1), uid="1.9")]
    anew: list[str] = []

    def ask_anew() -> int:
        anew.append(ask(index, reference(1), uid="1.9"))
        return 0x0000

    modality.answer = ask_anew
    report_all(index, file_ids, modality.port)
    assert [one.transaction_uid for one in modality.reports] == ["1.8"]
    row = index.commitments.find(anew[0])
    assert row is not None
    assert row.state is CommitmentState.WAITING


def test_who_ends_the_association_after_each_report_gets_them_all(
    index: Index, modality: Requester
) -> None:
    modality.is_curt = True
    file_ids = [ask(index, reference(0), uid=f"1.9.{number}") for number in range(5)]
    # an answer that is lost with its association puts its report off to a later attempt
    attempts = 0
    while index.commitments.counts()[CommitmentState.REPORTED] < 5:
        attempts += 1
        assert attempts <= 3
        report_all(index, file_ids, modality.port)
    assert {heard.transaction_uid for heard in modality.reports} == {
        f"1.9.{number}" for number in range(5)
    }


def test_every_report_to_a_requester_that_is_down_is_put_off_together(
    index: Index, free_port: Callable[[], int]
) -> None:
    file_ids = [ask(index, reference(0), uid=f"1.9.{number}") for number in range(3)]
    began = datetime.now(UTC)
    counts = report_all(index, file_ids, free_port())
    assert counts == {"listed": 0, "failed": 0, "put_off": 3}
    assert index.commitments.due(began + timedelta(seconds=20)) == []
    later = index.commitments.due(began + timedelta(seconds=60))
    assert [(row.file_id, row.attempts) for row in later] == [(uid, 1) for uid in file_ids]

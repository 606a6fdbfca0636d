"""What a destination stored, and whether it commits to keep it."""

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node import metrics
from dicom_node.config import AnyDestination, Config, Destination, NodeSettings
from dicom_node.deliver import echo, run_errand, settle_notice
from dicom_node.deliver.asking_commitment import NO_SERVICE
from dicom_node.deliver.committed import FAILURE_REASONS
from dicom_node.inbox import new_file_id
from dicom_node.outbox import DeliveryRow, DeliveryState, Errand, Outbox
from dicom_node.records import Notice, NoticeKind, Reference
from tests.support.committing import Archive, archive
from tests.support.nodes import until
from tests.support.owed import SEG, SR, result

pytestmark = [
    pytest.mark.dimse,
    # as in test_dimse.py
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

UIDS = ("1.0", "1.1")
ERRAND = Errand(study_instance_uid="1.2", destination="pacs", lease=0)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox with two objects of a study that are owed."""
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    owed = [result(tmp_path, "1.0"), result(tmp_path, "1.1", SR, "sr")]
    box.add(owed, [(one, "pacs") for one in owed], analysed="3", models="m", now=now())
    yield box
    box.close()


@pytest.fixture
def pacs(free_port: Callable[[], int]) -> Iterator[Archive]:
    with archive(free_port(), SEG, SR) as running:
        yield running


def now() -> datetime:
    return datetime.now(UTC)


def config_of(*destinations: AnyDestination) -> Config:
    return Config(node=NodeSettings(), destinations=destinations)


def attempt(outbox: Outbox, destination: AnyDestination) -> dict[str, int]:
    return run_errand(outbox, config_of(destination), ERRAND, rng=random.Random(0))


def rows(outbox: Outbox) -> list[DeliveryRow]:
    return sorted(outbox.rows(), key=lambda row: row.sop_instance_uid)


def states(outbox: Outbox) -> set[str]:
    return {row.state.value for row in rows(outbox)}


def report(pacs: Archive, *, ae_title: str = "PACS", transaction: str = "") -> Notice:
    """Return what a receiver writes down of a report that all is kept."""
    [question] = pacs.asked
    return Notice(
        file_id=new_file_id(),
        kind=NoticeKind.REPORT,
        calling_ae_title=ae_title,
        host="127.0.0.1",
        uid=transaction or str(question.TransactionUID),
        status="",
        study_instance_uids=(),
        references=tuple(Reference(sop_class_uid=SEG, sop_instance_uid=uid) for uid in UIDS),
        received_at=now(),
    )


def test_exactly_what_was_stored_is_asked_after_in_one_question(
    outbox: Outbox, pacs: Archive, tmp_path: Path
) -> None:
    lost = result(tmp_path, "1.7")
    lost.path.unlink()
    outbox.add([lost], [(lost, "pacs")], analysed="4", models="m", now=now())
    counts = attempt(outbox, pacs.destination)
    assert (counts["stored"], counts["delivered"], counts["permanent"]) == (2, 0, 1)
    [question] = pacs.asked
    assert {
        (item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID)
        for item in question.ReferencedSOPSequence
    } == {("1.0", SEG), ("1.1", SR)}
    assert outbox.counts()[DeliveryState.STORED] == 2
    assert outbox.promises.destination_of(question.TransactionUID) == "pacs"


def test_without_a_report_nothing_is_delivered_and_nobody_is_asked_again_meanwhile(
    outbox: Outbox, pacs: Archive
) -> None:
    attempt(outbox, pacs.destination)
    assert states(outbox) == {"stored"}
    assert outbox.due(now()) == []
    assert attempt(outbox, pacs.destination) == {}
    assert len(pacs.asked) == 1
    assert len(pacs.stored) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_report_over_the_same_association_closes_the_rows(
    outbox: Outbox, pacs: Archive, when: str
) -> None:
    pacs.same_association = when
    counts = attempt(outbox, pacs.destination)
    assert (counts["stored"], counts["delivered"]) == (2, 2)
    assert states(outbox) == {"delivered"}
    assert until(lambda: pacs.heard) == [0x0000]


def test_a_transaction_is_on_disk_before_the_question_leaves(
    outbox: Outbox, pacs: Archive, tmp_path: Path
) -> None:
    known: list[str | None] = []

    def look() -> int:
        with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as other:
            known.append(other.promises.destination_of(pacs.asked[-1].TransactionUID))
        return 0x0000

    pacs.answer = look
    attempt(outbox, pacs.destination)
    assert known == ["pacs"]


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (0x0110, DeliveryState.WAITING),
        (0x0112, DeliveryState.WAITING),
        (0x0213, DeliveryState.WAITING),
        (0x0119, DeliveryState.DEAD),
        (0x0122, DeliveryState.DEAD),
        (0x0131, DeliveryState.STORED),
        (0xABCD, DeliveryState.WAITING),
    ],
)
def test_each_failure_reason_has_its_words_and_what_follows(
    outbox: Outbox, pacs: Archive, reason: int, state: DeliveryState
) -> None:
    pacs.same_association, pacs.failures = "after", {"1.0": reason}
    attempt(outbox, pacs.destination)
    failed, kept = rows(outbox)
    assert (failed.state, failed.status) == (state, reason)
    assert failed.reason
    assert kept.state is DeliveryState.DELIVERED
    assert set(FAILURE_REASONS) >= {reason} - {0xABCD}


def test_what_was_lost_is_sent_again_and_asked_after_in_a_new_transaction(
    outbox: Outbox, pacs: Archive
) -> None:
    pacs.same_association, pacs.failures = "after", {"1.0": 0x0112}
    attempt(outbox, pacs.destination)
    pacs.failures = {}
    attempt(outbox, pacs.destination)
    assert pacs.stored == ["1.0", "1.1", "1.0"]
    first, second = pacs.asked
    assert first.TransactionUID != second.TransactionUID
    assert [item.ReferencedSOPInstanceUID for item in second.ReferencedSOPSequence] == ["1.0"]
    assert states(outbox) == {"delivered"}


def test_after_a_duplicate_transaction_it_is_asked_under_a_new_uid_and_not_sent(
    outbox: Outbox, pacs: Archive
) -> None:
    pacs.same_association, pacs.failures = "after", dict.fromkeys(UIDS, 0x0131)
    attempt(outbox, pacs.destination)
    pacs.failures = {}
    attempt(outbox, pacs.destination)
    assert len({question.TransactionUID for question in pacs.asked}) == 2
    assert len(pacs.stored) == 2
    assert states(outbox) == {"delivered"}


@pytest.mark.parametrize("status", [0x0110, 0x0112, 0x0122, 0x0124, 0x0213])
def test_a_question_that_is_refused_leaves_the_row_stored_with_the_cure(
    outbox: Outbox, pacs: Archive, status: int
) -> None:
    pacs.answer = lambda: status
    attempt(outbox, pacs.destination)
    for row in rows(outbox):
        assert row.state is DeliveryState.STORED
        assert row.reason.startswith(f"stored, not committed to: 0x{status:04X}: ")
        assert row.due_at > now()
    transaction = pacs.asked[0].TransactionUID
    assert outbox.promises.destination_of(transaction) is None
    pacs.answer, pacs.same_association = lambda: 0x0000, "after"
    attempt(outbox, pacs.destination)
    assert states(outbox) == {"delivered"}
    assert len(pacs.stored) == 2


def test_a_destination_without_the_service_is_named_with_the_cure_and_asked_again(
    outbox: Outbox, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with archive(port, SEG, SR, commits=False) as bare:
        attempt(outbox, bare.destination)
        assert {row.reason for row in rows(outbox)} == {f"stored, not committed to: {NO_SERVICE}"}
        assert "set commitment: false or enable it there" in NO_SERVICE
        assert outbox.outages.all() == []
        assert len(bare.stored) == 2
        switched_off = bare.destination.model_copy(update={"commitment": False})
        assert attempt(outbox, switched_off)["delivered"] == 2
        assert states(outbox) == {"delivered"}
        assert len(bare.stored) == 2


def test_a_destination_that_went_down_before_the_question_is_an_outage(
    outbox: Outbox, free_port: Callable[[], int]
) -> None:
    with archive(free_port(), SEG, SR) as gone:
        down = gone.destination
    for uid in UIDS:
        outbox.promises.stored(uid, "pacs", status=0, now=now())
    attempt(outbox, down)
    [outage] = outbox.outages.all()
    assert outage.destination == "pacs"
    assert states(outbox) == {"stored"}
    assert {row.attempts for row in rows(outbox)} == {2}


def test_a_question_without_an_answer_is_asked_again_and_its_late_report_believed(
    outbox: Outbox, pacs: Archive
) -> None:
    hasty = pacs.destination.model_copy(update={"timeout_s": 0.5})
    asked_for = pacs.answer

    def dawdle() -> int:
        until(lambda: states(outbox) == {"stored"} and all(row.reason for row in rows(outbox)))
        return 0x0000

    pacs.answer = dawdle
    attempt(outbox, hasty)
    assert {row.reason for row in rows(outbox)} == {
        "stored, not committed to: no answer in time to the question for commitment"
    }
    pacs.answer = asked_for
    settled = settle_notice(outbox, config_of(hasty), report(pacs), rng=random.Random(0))
    assert len(settled.delivered) == 2
    assert states(outbox) == {"delivered"}


@pytest.mark.parametrize("case", ["another AE title", "unknown transaction", "other destination"])
def test_nobody_else_can_close_the_rows_of_a_destination(
    outbox: Outbox, pacs: Archive, case: str
) -> None:
    attempt(outbox, pacs.destination)
    said = report(pacs)
    destinations = [pacs.destination]
    if case == "another AE title":
        said = replace(said, calling_ae_title="EVIL")
    elif case == "unknown transaction":
        said = replace(said, uid="1.2.3")
    else:
        # listed as well, and knows the transaction of the first
        other = {"name": "other", "ae_title": "OTHER"}
        destinations.append(pacs.destination.model_copy(update=other))
        said = replace(said, calling_ae_title="OTHER")
    with capture_logs() as logs:
        settled = settle_notice(outbox, config_of(*destinations), said, rng=random.Random(0))
    assert (settled.delivered, settled.refused) == ([], [])
    assert [line["event"] for line in logs] == ["commitment report ignored"]
    assert states(outbox) == {"stored"}


def test_stored_and_delivered_are_counted_apart(
    outbox: Outbox, pacs: Archive, counted: metrics.Page
) -> None:
    attempt(outbox, pacs.destination)
    found = counted.values(metrics.DELIVERIES)
    assert (found["other", "stored"], found["other", "delivered"]) == (2, 0)
    settle_notice(outbox, config_of(pacs.destination), report(pacs), rng=random.Random(0))
    found = counted.values(metrics.DELIVERIES)
    assert (found["other", "stored"], found["other", "delivered"]) == (2, 2)


def test_what_is_stored_at_a_destination_that_nobody_knows_any_more_is_a_dead_letter(
    outbox: Outbox, pacs: Archive
) -> None:
    attempt(outbox, pacs.destination)
    outbox.retry(now=now())
    run_errand(outbox, config_of(), ERRAND, rng=random.Random(0))
    assert states(outbox) == {"dead"}


@pytest.mark.peers
def test_storescp_of_dcmtk_has_no_such_service(
    outbox: Outbox,
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
) -> None:
    port = free_port()
    command = [needs_program("storescp"), "-od", str(tmp_path), "-aet", "PACS", str(port)]
    destination = Destination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5, commitment=True
    )
    with subprocess.Popen(command) as process:
        try:
            until(lambda: not echo(destination, calling_ae_title="NODE"))
            assert attempt(outbox, destination)["stored"] == 2
        finally:
            process.terminate()
    assert {row.reason for row in rows(outbox)} == {f"stored, not committed to: {NO_SERVICE}"}

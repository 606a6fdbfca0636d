"""What the outbox makes of questions after storage commitment, and of their answers."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.backoff import LONGEST_RETRY_S
from dicom_node.outbox import LEASE_S, DeliveryRow, DeliveryState, Errand, Outbox, Refusal, Settled
from dicom_node.records import Result, ResultKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERRAND = Errand(study_instance_uid="1.2", destination="pacs", lease=0)
SEND_AGAIN = Refusal(state=DeliveryState.WAITING, status=0x0112, reason="lost")
GIVE_UP = Refusal(state=DeliveryState.DEAD, status=0x0119, reason="conflict")
ASK_ANEW = Refusal(state=DeliveryState.STORED, status=0x0131, reason="duplicate")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox of two objects that are owed to two destinations."""
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    owed = [result(tmp_path, f"1.{number}") for number in (1, 2)]
    pairs = [(one, name) for one in owed for name in ("pacs", "archive")]
    box.add(owed, pairs, analysed="1.9", models="m", now=NOW)
    yield box
    box.close()


def result(folder: Path, uid: str) -> Result:
    return Result(
        kind=ResultKind.SEG,
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        study_instance_uid="1.2",
        source_sop_instance_uid="1.9",
        path=folder / f"{uid}.dcm",
    )


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def rng() -> random.Random:
    return random.Random(0)


def store(outbox: Outbox, *uids: str, to: str = "pacs") -> None:
    for uid in uids:
        outbox.promises.stored(uid, to, status=0, now=NOW)


def ask(outbox: Outbox, transaction: str, *uids: str, to: str = "pacs", after_s: float = 0) -> None:
    """Ask, and let the destination take the question."""
    now = at(after_s)
    outbox.promises.ask(transaction, to, uids, now)
    outbox.promises.taken(transaction, wait_s=3600, now=now, rng=rng())


def answer(
    outbox: Outbox, transaction: str, *kept: str, after_s: float = 60, **refused: Refusal
) -> Settled:
    """Settle; of the refused the names stand without their dots."""
    named = {f"{name[1]}.{name[2]}": refusal for name, refusal in refused.items()}
    return outbox.promises.settle(transaction, kept, named, now=at(after_s), rng=rng())


def row(outbox: Outbox, uid: str, destination: str = "pacs") -> DeliveryRow:
    [found] = [
        one
        for one in outbox.rows()
        if (one.sop_instance_uid, one.destination) == (uid, destination)
    ]
    return found


def unasked(outbox: Outbox, after_s: float = 0) -> list[str]:
    return [one.sop_instance_uid for one in outbox.unasked(ERRAND, at(after_s))]


def is_due(outbox: Outbox, after_s: float, to: str = "pacs") -> bool:
    return to in {errand.destination for errand in outbox.due(at(after_s))}


def test_what_is_stored_is_not_sent_again_and_not_delivered(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    assert outbox.waiting(ERRAND) == []
    assert outbox.counts()[DeliveryState.DELIVERED] == 0
    assert outbox.counts()[DeliveryState.STORED] == 2
    assert unasked(outbox) == ["1.1", "1.2"]
    assert outbox.owed_studies() == {"1.2"}
    assert outbox.delivered_to("1.2", ["pacs"]) == ["1.1", "1.2"]


def test_what_nobody_asked_after_is_handed_out_again(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    assert not is_due(outbox, LEASE_S - 1)
    assert is_due(outbox, LEASE_S)
    [errand] = [one for one in outbox.due(at(LEASE_S)) if one.destination == "pacs"]
    outbox.lease(errand, at(LEASE_S))
    assert not is_due(outbox, LEASE_S + 1)
    assert is_due(outbox, 2 * LEASE_S)
    outbox.put_back(errand, at(LEASE_S + 1))
    assert is_due(outbox, LEASE_S + 1)


def test_a_transaction_is_known_before_the_destination_took_it_and_after_a_restart(
    outbox: Outbox, tmp_path: Path
) -> None:
    store(outbox, "1.1")
    outbox.promises.ask("9.1", "pacs", ["1.1"], NOW)
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as other:
        assert other.promises.destination_of("9.1") == "pacs"
        assert unasked(other) == ["1.1"], "nobody knows whether it was asked"
        answer(other, "9.1", "1.1")
    outbox.promises.taken("9.1", wait_s=3600, now=NOW, rng=rng())
    assert row(outbox, "1.1").state is DeliveryState.DELIVERED


def test_an_answer_is_waited_for_and_asked_for_again_with_longer_pauses(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    ask(outbox, "9.1", "1.1", "1.2")
    assert unasked(outbox) == []
    assert row(outbox, "1.1").reason == ""
    assert not is_due(outbox, 3599)
    assert is_due(outbox, 3600)
    assert unasked(outbox, 3600) == ["1.1", "1.2"]
    outbox.promises.ask("9.2", "pacs", ["1.1"], at(3600))
    outbox.promises.taken("9.2", wait_s=1, now=at(3600), rng=rng())
    assert "1 times without a report" in row(outbox, "1.1").reason
    assert row(outbox, "1.1").due_at >= at(3600 + 0.8 * 30)


def test_what_is_committed_to_is_delivered_with_the_time_and_once(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    ask(outbox, "9.1", "1.1", "1.2")
    assert answer(outbox, "9.1", "1.1", after_s=77) == Settled(delivered=["1.2"])
    assert answer(outbox, "9.1", "1.1", after_s=99) == Settled()
    found = row(outbox, "1.1")
    assert (found.state, found.changed_at, found.reason) == (DeliveryState.DELIVERED, at(77), "")
    assert row(outbox, "1.2").state is DeliveryState.STORED
    answer(outbox, "9.1", "1.2")
    assert outbox.promises.destination_of("9.1") is None


@pytest.mark.parametrize("refusal", [SEND_AGAIN, GIVE_UP, ASK_ANEW], ids=lambda one: one.reason)
def test_what_is_not_committed_to_goes_where_its_reason_says(
    outbox: Outbox, refusal: Refusal
) -> None:
    store(outbox, "1.1", "1.2")
    ask(outbox, "9.1", "1.1", "1.2")
    assert answer(outbox, "9.1", "1.2", u11=refusal).refused == [refusal.state]
    found = row(outbox, "1.1")
    assert (found.state, found.status, found.reason) == (
        refusal.state,
        refusal.status,
        refusal.reason,
    )
    assert row(outbox, "1.2").state is DeliveryState.DELIVERED
    assert is_due(outbox, 60 + 0.8 * 30 - 1) is False
    assert is_due(outbox, 60 + 1.2 * 30) is (refusal is not GIVE_UP)
    assert unasked(outbox, 120) == (["1.1"] if refusal is ASK_ANEW else [])
    assert [one.sop_instance_uid for one in outbox.waiting(ERRAND)] == (
        ["1.1"] if refusal is SEND_AGAIN else []
    )


def test_where_an_answer_says_both_it_is_not_committed_to(outbox: Outbox) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    assert answer(outbox, "9.1", "1.1", u11=GIVE_UP) == Settled(refused=[DeliveryState.DEAD])


def test_an_object_that_is_lost_each_time_is_sent_again_for_ever_with_longer_pauses(
    outbox: Outbox,
) -> None:
    for number in range(20):
        store(outbox, "1.1")
        ask(outbox, f"9.{number}", "1.1")
        answer(outbox, f"9.{number}", u11=SEND_AGAIN, after_s=0)
    found = row(outbox, "1.1")
    assert (found.state, found.attempts) == (DeliveryState.WAITING, 40)
    assert found.due_at <= at(1.2 * LONGEST_RETRY_S)
    assert found.due_at >= at(0.8 * LONGEST_RETRY_S)


def test_a_question_that_was_not_taken_is_asked_later_and_says_why(outbox: Outbox) -> None:
    store(outbox, "1.1")
    for attempt in range(12):
        outbox.promises.put_off("pacs", ["1.1"], reason="no service", now=NOW, rng=rng())
        pause_s = min(30 * 2**attempt, LONGEST_RETRY_S)
        due_s = (row(outbox, "1.1").due_at - NOW).total_seconds()
        assert 0.8 * pause_s <= due_s <= 1.2 * pause_s
    found = row(outbox, "1.1")
    assert (found.state, found.reason) == (DeliveryState.STORED, "no service")
    assert unasked(outbox) == ["1.1"]


def test_a_late_yes_counts_and_a_late_no_does_not(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    ask(outbox, "9.1", "1.1", "1.2")
    ask(outbox, "9.2", "1.1", "1.2", after_s=3600)
    assert answer(outbox, "9.1", "1.1", u12=GIVE_UP) == Settled(delivered=["1.2"])
    assert row(outbox, "1.2").state is DeliveryState.STORED
    answer(outbox, "9.2", u12=GIVE_UP)
    assert row(outbox, "1.2").state is DeliveryState.DEAD


def test_a_question_that_was_refused_does_not_silence_the_one_before(outbox: Outbox) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    outbox.promises.ask("9.2", "pacs", ["1.1"], at(3600))
    outbox.promises.refused("9.2")
    answer(outbox, "9.1", u11=SEND_AGAIN)
    assert row(outbox, "1.1").state is DeliveryState.WAITING


def test_what_is_due_while_an_earlier_answer_is_waited_for_is_handed_out_once(
    outbox: Outbox,
) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    ask(outbox, "9.2", "1.1", after_s=1)
    answer(outbox, "9.2", u11=ASK_ANEW)
    assert unasked(outbox, 120) == []
    [errand] = [one for one in outbox.due(at(120)) if one.destination == "pacs"]
    outbox.lease(errand, at(120))
    assert not is_due(outbox, 121)


def test_a_yes_to_what_was_sent_anew_since_changes_nothing(outbox: Outbox) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    store(outbox, "1.1")
    assert answer(outbox, "9.1", "1.1") == Settled()
    assert row(outbox, "1.1").state is DeliveryState.STORED


def test_an_answer_changes_no_object_and_no_destination_that_was_not_asked(
    outbox: Outbox,
) -> None:
    store(outbox, "1.1", "1.2")
    store(outbox, "1.1", to="archive")
    ask(outbox, "9.1", "1.1")
    ask(outbox, "9.2", "1.1", to="archive")
    assert answer(outbox, "9.1", "1.1", "1.2", "1.7") == Settled(delivered=["1.2"])
    assert answer(outbox, "9.7", "1.2") == Settled()
    assert row(outbox, "1.2").state is DeliveryState.STORED
    assert row(outbox, "1.1", "archive").state is DeliveryState.STORED
    assert answer(outbox, "9.2", "1.1") == Settled(delivered=["1.2"])


def test_what_is_owed_dead_or_delivered_is_not_moved_by_an_answer(outbox: Outbox) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1", "1.2")
    outbox.bury("1.1", "pacs", status=None, reason="by hand", now=NOW)
    assert answer(outbox, "9.1", "1.1", "1.2") == Settled()
    assert row(outbox, "1.1").state is DeliveryState.DEAD
    assert row(outbox, "1.2").state is DeliveryState.WAITING


def test_a_later_version_leaves_what_is_stored_and_takes_its_place_when_that_is_lost(
    outbox: Outbox, tmp_path: Path
) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    newer = replace(result(tmp_path, "1.5"), version=2)
    outbox.add([newer], [(newer, "pacs")], analysed="1.9", models="n", now=NOW)
    assert row(outbox, "1.1").state is DeliveryState.STORED
    assert row(outbox, "1.2").state is DeliveryState.WITHDRAWN
    assert answer(outbox, "9.1", u11=SEND_AGAIN).refused == [DeliveryState.WITHDRAWN]
    assert row(outbox, "1.1").state is DeliveryState.WITHDRAWN


def test_retry_asks_at_once_and_drop_forgets_nothing_that_is_stored(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    store(outbox, "1.1", to="archive")
    ask(outbox, "9.1", "1.1", "1.2")
    assert outbox.retry(now=at(5), destination="pacs") == 2
    assert is_due(outbox, 5)
    assert unasked(outbox, 5) == ["1.1", "1.2"]
    assert row(outbox, "1.1").state is DeliveryState.STORED
    assert row(outbox, "1.1", "archive").due_at == at(LEASE_S)
    assert outbox.drop() == 0
    answer(outbox, "9.1", "1.1")
    assert row(outbox, "1.1").state is DeliveryState.DELIVERED


def test_what_nobody_wants_a_promise_for_any_more_is_delivered(outbox: Outbox) -> None:
    store(outbox, "1.1")
    ask(outbox, "9.1", "1.1")
    outbox.promises.waive("pacs", ["1.1", "1.2"], NOW)
    assert row(outbox, "1.1").state is DeliveryState.DELIVERED
    assert row(outbox, "1.2").state is DeliveryState.WAITING
    assert outbox.promises.destination_of("9.1") is None


def test_a_question_is_forgotten_a_week_after_its_answer_was_due(outbox: Outbox) -> None:
    store(outbox, "1.1", "1.2")
    ask(outbox, "9.1", "1.1")
    week_s = 7 * 86400
    ask(outbox, "9.2", "1.2", after_s=week_s)
    assert outbox.promises.destination_of("9.1") == "pacs"
    ask(outbox, "9.3", "1.2", after_s=week_s + 3601)
    assert outbox.promises.destination_of("9.1") is None
    assert outbox.promises.destination_of("9.2") == "pacs"


def test_an_outbox_of_a_former_program_opens_and_learns_to_ask(tmp_path: Path) -> None:
    former = Outbox(tmp_path / "former.db", tmp_path)
    owed = result(tmp_path, "1.1")
    former.add([owed], [(owed, "pacs")], analysed="1.9", models="m", now=NOW)
    former.close()
    with closing(sqlite3.connect(tmp_path / "former.db")) as connection:
        connection.execute("DROP TABLE promised")
        connection.execute("DROP TABLE promise")
    with closing(Outbox(tmp_path / "former.db", tmp_path)) as opened:
        store(opened, "1.1")
        ask(opened, "9.1", "1.1")
        assert answer(opened, "9.1", "1.1") == Settled(delivered=["1.2"])
        assert opened.counts()[DeliveryState.DELIVERED] == 1

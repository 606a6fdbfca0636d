import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.backoff import FIRST_RETRY_S, LONGEST_RETRY_S
from dicom_node.outbox import LEASE_S, DeliveryState, Outbox
from dicom_node.records import Result, ResultKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    yield box
    box.close()


def result(uid: str, folder: Path, *, study: str = "1.2", kind: str = "seg") -> Result:
    return Result(
        kind=ResultKind(kind),
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        study_instance_uid=study,
        source_sop_instance_uid="1.9",
        path=folder / f"{uid}.dcm",
    )


def owe(outbox: Outbox, *results: Result, to: str = "pacs") -> None:
    outbox.add(results, [(r, to) for r in results], analysed="1.9", models="m", now=NOW)


def test_what_is_added_is_due_at_once_and_survives_a_restart(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox.db", tmp_path)
    owe(first, result("1.1", tmp_path))
    first.close()
    again = Outbox(tmp_path / "outbox.db", tmp_path)
    [errand] = again.due(NOW)
    assert [r.path for r in again.waiting(errand)] == [tmp_path / "1.1.dcm"]
    assert again.is_analysed("1.9", "m")
    again.close()


def test_adding_the_same_again_changes_nothing(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path))
    outbox.delivered("1.1", "pacs", status=0, now=NOW)
    owe(outbox, result("1.1", tmp_path))
    assert outbox.counts()[DeliveryState.DELIVERED] == 1
    assert outbox.due(NOW) == []


def test_an_image_is_analysed_anew_by_other_models(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path))
    assert not outbox.is_analysed("1.9", "other")


def test_a_handed_out_errand_is_due_again_only_after_its_lease(
    outbox: Outbox, tmp_path: Path
) -> None:
    owe(outbox, result("1.1", tmp_path))
    [errand] = outbox.due(NOW)
    outbox.lease(errand, NOW)
    assert outbox.due(NOW + timedelta(seconds=LEASE_S - 1)) == []
    [later] = outbox.due(NOW + timedelta(seconds=LEASE_S + 1))
    assert later.lease == errand.lease + 1


def test_what_is_added_while_an_errand_runs_is_handed_out_under_another_name(
    outbox: Outbox, tmp_path: Path
) -> None:
    owe(outbox, result("1.1", tmp_path))
    [first] = outbox.due(NOW)
    outbox.lease(first, NOW)
    owe(outbox, result("1.2", tmp_path))
    [second] = outbox.due(NOW)
    assert second != first


def test_destinations_and_studies_are_separate_errands(outbox: Outbox, tmp_path: Path) -> None:
    first, second = result("1.1", tmp_path), result("1.2", tmp_path, study="1.3")
    outbox.add(
        [first, second],
        [(first, "a"), (first, "b"), (second, "a")],
        analysed="1.9",
        models="m",
        now=NOW,
    )
    found = {(errand.study_instance_uid, errand.destination) for errand in outbox.due(NOW)}
    assert found == {("1.2", "a"), ("1.2", "b"), ("1.3", "a")}


def test_the_backoff_doubles_up_to_its_limit(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path))
    delays = []
    for _ in range(8):
        outbox.postpone("1.1", "pacs", status=0xA700, reason="full", now=NOW, rng=random.Random(0))
        [row] = outbox.rows(DeliveryState.WAITING)
        delays.append((row.due_at - NOW).total_seconds())
    jitter = delays[0] / FIRST_RETRY_S
    assert 0.8 <= jitter <= 1.2
    expected = [min(FIRST_RETRY_S * 2**n, LONGEST_RETRY_S) * jitter for n in range(8)]
    assert delays == pytest.approx(expected, abs=1e-3)


def test_a_dead_letter_rests_until_it_is_retried(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path))
    outbox.bury("1.1", "pacs", status=0x0122, reason="no such class", now=NOW)
    assert outbox.due(NOW + timedelta(days=1)) == []
    assert outbox.retry(now=NOW, destination="elsewhere") == 0
    assert outbox.retry(now=NOW, destination="pacs") == 1
    assert len(outbox.due(NOW)) == 1


def test_dropping_takes_dead_letters_only(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path), result("1.2", tmp_path))
    outbox.bury("1.1", "pacs", status=None, reason="never", now=NOW)
    assert outbox.drop() == 1
    assert [row.sop_instance_uid for row in outbox.rows()] == ["1.2"]


def test_a_delivered_object_is_never_postponed(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, result("1.1", tmp_path))
    outbox.delivered("1.1", "pacs", status=0, now=NOW)
    outbox.postpone("1.1", "pacs", status=None, reason="late", now=NOW, rng=random.Random(0))
    assert outbox.counts()[DeliveryState.DELIVERED] == 1


def test_a_backlog_says_how_much_waits_or_was_given_up_and_since_when(
    outbox: Outbox, tmp_path: Path
) -> None:
    owe(outbox, result("1.1", tmp_path), result("1.2", tmp_path), result("1.3", tmp_path))
    owe(outbox, result("1.1", tmp_path), to="archive")
    outbox.bury("1.2", "pacs", status=None, reason="no", now=NOW)
    outbox.delivered("1.3", "pacs", status=0, now=NOW)
    found = {(row.destination, row.state): row.count for row in outbox.backlogs()}
    assert found == {
        ("pacs", DeliveryState.WAITING): 1,
        ("pacs", DeliveryState.DEAD): 1,
        ("archive", DeliveryState.WAITING): 1,
    }
    assert all(row.oldest_at == NOW for row in outbox.backlogs())

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.backoff import FIRST_RETRY_S, LONGEST_RETRY_S
from dicom_node.outbox import Errand, Outbox
from dicom_node.outbox.outages import PROBE_S
from tests.support.owed import result

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AFTER = NOW + timedelta(seconds=1.2 * FIRST_RETRY_S)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox with three studies that each owe an object to two destinations."""
    box = Outbox(tmp_path / "outbox.db", tmp_path)
    for number in range(3):
        owed = result(tmp_path, f"1.{number}", study=f"2.{number}")
        pairs = [(owed, "pacs"), (owed, "other")]
        box.add([owed], pairs, analysed=f"3.{number}", models="m", now=NOW)
    yield box
    box.close()


def fail(outbox: Outbox, now: datetime = NOW, destination: str = "pacs") -> None:
    outbox.outages.failed(destination, reason="no connection", now=now, rng=random.Random(0))


def handed_out(outbox: Outbox, now: datetime) -> list[tuple[str, str]]:
    errands = outbox.outages.let_through(outbox.due(now), now)
    return sorted((errand.destination, errand.study_instance_uid) for errand in errands)


def test_what_a_destination_that_is_down_is_owed_waits_and_no_other_does(outbox: Outbox) -> None:
    fail(outbox)
    assert handed_out(outbox, NOW) == [("other", f"2.{number}") for number in range(3)]


def test_one_study_finds_out_for_all(outbox: Outbox) -> None:
    fail(outbox)
    [probe] = [study for name, study in handed_out(outbox, AFTER) if name == "pacs"]
    found = outbox.outages.find("pacs")
    assert found is not None
    assert found.probe == probe
    assert not [name for name, _ in handed_out(outbox, AFTER) if name == "pacs"]
    outbox.outages.ended("pacs")
    assert [name for name, _ in handed_out(outbox, AFTER)].count("pacs") == 3


def test_who_is_not_heard_of_is_followed_by_another(outbox: Outbox) -> None:
    fail(outbox)
    handed_out(outbox, AFTER)
    later = AFTER + timedelta(seconds=PROBE_S)
    assert [name for name, _ in handed_out(outbox, later)].count("pacs") == 1


def test_each_failure_doubles_the_pause_up_to_ten_minutes_and_since_stays(outbox: Outbox) -> None:
    now, pauses = NOW, []
    for _ in range(8):
        fail(outbox, now)
        found = outbox.outages.find("pacs")
        assert found is not None
        assert found.since == NOW
        pauses.append((found.next_try_at - now).total_seconds())
        now = found.next_try_at
    expected = [min(FIRST_RETRY_S * 2**n, LONGEST_RETRY_S) for n in range(8)]
    for pause, middle in zip(pauses, expected, strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle
    assert found.failures == 8


def test_an_outage_survives_a_restart(outbox: Outbox, tmp_path: Path) -> None:
    fail(outbox)
    again = Outbox(tmp_path / "outbox.db", tmp_path)
    [found] = again.outages.all()
    again.close()
    assert (found.destination, found.since, found.reason) == ("pacs", NOW, "no connection")


def test_who_had_nothing_to_send_lets_another_find_out_at_once(outbox: Outbox) -> None:
    fail(outbox)
    handed_out(outbox, AFTER)
    outbox.outages.nothing_found_out("pacs", AFTER)
    assert [name for name, _ in handed_out(outbox, AFTER)].count("pacs") == 1


@pytest.mark.parametrize("named", ["pacs", None])
def test_a_retry_tries_a_destination_that_is_down_at_once(
    outbox: Outbox, named: str | None
) -> None:
    fail(outbox)
    fail(outbox, destination="other")
    outbox.retry(now=NOW, destination=named)
    names = {name for name, _ in handed_out(outbox, NOW)}
    assert names == ({"pacs"} if named else {"pacs", "other"})


def test_what_is_put_back_is_due_at_once(outbox: Outbox) -> None:
    [first, *_] = [errand for errand in outbox.due(NOW) if errand.destination == "pacs"]
    outbox.lease(first, NOW)
    assert first not in outbox.due(NOW)
    outbox.put_back(first, NOW)
    expected = Errand(
        study_instance_uid=first.study_instance_uid, destination="pacs", lease=first.lease + 1
    )
    assert expected in outbox.due(NOW)

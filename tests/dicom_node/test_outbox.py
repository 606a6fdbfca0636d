import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
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


def spoken(outbox: Outbox, folder: Path, models: str, *uids: str, after_s: float = 0) -> None:
    """Add what models said of one image, as the next edition."""
    edition = outbox.next_edition("1.9", study_revision=1)
    results = [
        replace(
            result(uid, folder),
            version=edition.version,
            series_instance_uid="1.7",
            supersedes=edition.predecessors[0].sop_instance_uid if edition.predecessors else None,
        )
        for uid in uids
    ]
    now = NOW + timedelta(seconds=after_s)
    outbox.add(results, [(r, "pacs") for r in results], analysed="1.9", models=models, now=now)


def test_the_next_edition_stays_the_same_until_it_is_added(outbox: Outbox, tmp_path: Path) -> None:
    first = outbox.next_edition("1.9", study_revision=1)
    assert (first.version, first.predecessors) == (1, ())
    assert outbox.next_edition("1.9", study_revision=1) == first
    spoken(outbox, tmp_path, "m", "1.1")
    second = outbox.next_edition("1.9", study_revision=2)
    assert (second.version, second.study_revision) == (2, 2)
    assert [earlier.sop_instance_uid for earlier in second.predecessors] == ["1.1"]


def test_a_later_version_withdraws_what_is_still_owed_and_both_stay_traceable(
    outbox: Outbox, tmp_path: Path
) -> None:
    spoken(outbox, tmp_path, "m", "1.1")
    [errand] = outbox.due(NOW)
    spoken(outbox, tmp_path, "n", "1.2")
    assert [r.sop_instance_uid for r in outbox.waiting(errand)] == ["1.2"]
    rows = {row.sop_instance_uid: row for row in outbox.rows()}
    assert (rows["1.1"].state, rows["1.1"].version) == (DeliveryState.WITHDRAWN, 1)
    assert (rows["1.2"].version, rows["1.2"].supersedes) == (2, "1.1")
    assert outbox.retry(now=NOW) == 1


def test_a_delivered_version_stays_delivered(outbox: Outbox, tmp_path: Path) -> None:
    spoken(outbox, tmp_path, "m", "1.1")
    outbox.delivered("1.1", "pacs", status=0, now=NOW)
    spoken(outbox, tmp_path, "n", "1.2")
    assert outbox.counts()[DeliveryState.DELIVERED] == 1
    assert outbox.counts()[DeliveryState.WITHDRAWN] == 0


def test_an_answer_to_what_was_withdrawn_meanwhile_is_true_only_when_it_is_success(
    outbox: Outbox, tmp_path: Path
) -> None:
    for uid, models in (("1.1", "l"), ("1.2", "m"), ("1.3", "n")):
        spoken(outbox, tmp_path, models, uid)
    outbox.bury("1.1", "pacs", status=0x0122, reason="no such class", now=NOW)
    outbox.delivered("1.2", "pacs", status=0, now=NOW)
    states = {row.sop_instance_uid: row.state for row in outbox.rows()}
    assert states["1.1"] is DeliveryState.WITHDRAWN
    assert states["1.2"] is DeliveryState.DELIVERED


def test_models_that_come_back_speak_again(outbox: Outbox, tmp_path: Path) -> None:
    spoken(outbox, tmp_path, "m", "1.1")
    spoken(outbox, tmp_path, "n", "1.2", after_s=-60)
    assert not outbox.is_analysed("1.9", "m")
    assert outbox.is_analysed("1.9", "n")
    spoken(outbox, tmp_path, "m", "1.3", after_s=-120)
    assert outbox.is_analysed("1.9", "m")


def test_an_outbox_of_the_former_layout_opens_and_its_results_are_the_first(
    tmp_path: Path,
) -> None:
    former = Outbox(tmp_path / "outbox.db", tmp_path)
    owe(former, result("1.1", tmp_path))
    former.close()
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        connection.execute("DROP TABLE version")
        connection.execute("DROP INDEX ix_result_source_sop_instance_uid")
        connection.commit()
    outbox = Outbox(tmp_path / "outbox.db", tmp_path)
    [errand] = outbox.due(NOW)
    assert [r.version for r in outbox.waiting(errand)] == [1]
    edition = outbox.next_edition("1.9", study_revision=1)
    assert (edition.version, edition.predecessors) == (2, ())
    spoken(outbox, tmp_path, "n", "1.2")
    assert outbox.counts()[DeliveryState.WITHDRAWN] == 1
    outbox.close()


def test_the_tally_follows_every_change_of_a_delivery(outbox: Outbox, tmp_path: Path) -> None:
    owe(outbox, *(result(f"1.{n}", tmp_path) for n in range(5)))
    outbox.delivered("1.0", "pacs", status=0, now=NOW)
    for uid in ("1.1", "1.2"):
        outbox.bury(uid, "pacs", status=0xA900, reason="no", now=NOW)
    outbox.retry(now=NOW)
    outbox.bury("1.3", "pacs", status=0xA900, reason="no", now=NOW)
    outbox.drop()
    outbox.bury("1.4", "pacs", status=0xA900, reason="no", now=NOW)
    assert outbox.counts() == {
        DeliveryState.WAITING: 2,
        DeliveryState.STORED: 0,
        DeliveryState.DELIVERED: 1,
        DeliveryState.DEAD: 1,
        DeliveryState.WITHDRAWN: 0,
    }


def test_an_outbox_without_a_tally_is_counted_once_when_it_is_opened(tmp_path: Path) -> None:
    former = Outbox(tmp_path / "outbox.db", tmp_path)
    owe(former, result("1.1", tmp_path), result("1.2", tmp_path))
    former.close()
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as connection:
        connection.execute("DROP TABLE tally")
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        for (trigger,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
    opened = Outbox(tmp_path / "outbox.db", tmp_path)
    opened.delivered("1.1", "pacs", status=0, now=NOW)
    assert opened.counts()[DeliveryState.WAITING] == 1
    assert opened.counts()[DeliveryState.DELIVERED] == 1
    opened.close()

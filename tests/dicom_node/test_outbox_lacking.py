"""What the outbox knows of objects that were refused when nothing lay in reserve."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.outbox import DeliveryState, LackingRow, Outbox
from dicom_node.records import Result, ResultKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
STUDY, IMAGE = "1.2", "1.31"
KINDS = tuple(ResultKind)
SEG, SR, PR, SC = KINDS
LADDER = ("pr", "sc")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox that owes a SEG and an SR of an image, both refused."""
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as opened:
        results = [result(SEG), result(SR)]
        owed = [(one, "pacs") for one in results]
        opened.add(results, owed, analysed=IMAGE, models="m", now=NOW)
        for one in results:
            refuse(opened, one)
        yield opened


def result(kind: ResultKind) -> Result:
    uid = f"{IMAGE}.{KINDS.index(kind)}"
    return Result(
        kind=kind,
        sop_instance_uid=uid,
        sop_class_uid=f"1.9.{KINDS.index(kind)}",
        study_instance_uid=STUDY,
        source_sop_instance_uid=IMAGE,
        path=Path(f"{uid}.dcm"),
        series_instance_uid=f"1.8.{KINDS.index(kind)}",
    )


def refuse(outbox: Outbox, refused: Result, now: datetime = NOW) -> None:
    """Let the destination say never to an object, as a delivery does."""
    uid = refused.sop_instance_uid
    if not outbox.replace(uid, "pacs", LADDER, now=now):
        outbox.bury(uid, "pacs", status=0xC000, reason="never", now=now)


def states(outbox: Outbox) -> dict[ResultKind, DeliveryState]:
    return {row.kind: row.state for row in outbox.rows()}


def test_a_refused_object_is_a_dead_letter_until_something_is_drawn(outbox: Outbox) -> None:
    assert set(states(outbox).values()) == {DeliveryState.DEAD}
    assert outbox.lacking.studies() == {STUDY: NOW.timestamp()}
    refused, _ = outbox.lacking.of(STUDY)
    [rungs] = outbox.lacking.rungs(refused)
    assert (rungs.source_sop_instance_uid, rungs.version) == (IMAGE, 1)
    assert rungs.first(LADDER) is None


def test_what_is_drawn_takes_the_place_of_all_that_was_refused_of_an_image(outbox: Outbox) -> None:
    first, second = outbox.lacking.of(STUDY)
    assert outbox.lacking.settle(first, [result(PR)], LADDER, now=LATER)
    [rungs] = outbox.lacking.rungs(second)
    assert rungs.first(LADDER) == ("pr", result(PR).sop_instance_uid)
    assert outbox.lacking.settle(second, [], LADDER, now=LATER)
    withdrawn = DeliveryState.WITHDRAWN
    assert states(outbox) == {SEG: withdrawn, SR: withdrawn, PR: DeliveryState.WAITING}
    assert outbox.lacking.studies() == {}


def test_what_was_drawn_and_refused_takes_no_place_again(outbox: Outbox) -> None:
    for row in outbox.lacking.of(STUDY):
        outbox.lacking.settle(row, [result(PR)], LADDER, now=LATER)
    refuse(outbox, result(PR), LATER)
    assert states(outbox)[PR] is DeliveryState.DEAD
    [lacking] = outbox.lacking.of(STUDY)
    [rungs] = outbox.lacking.rungs(lacking)
    assert rungs.refused >= {"pr"}
    assert outbox.lacking.settle(lacking, [result(SC)], LADDER, now=LATER)
    assert (states(outbox)[PR], states(outbox)[SC]) == (
        DeliveryState.WITHDRAWN,
        DeliveryState.WAITING,
    )


def test_where_nothing_was_drawn_the_dead_letters_stay_and_are_not_drawn_again(
    outbox: Outbox,
) -> None:
    for row in outbox.lacking.of(STUDY):
        assert not outbox.lacking.settle(row, [], LADDER, now=LATER)
    assert set(states(outbox).values()) == {DeliveryState.DEAD}
    assert outbox.lacking.studies() == {}


def test_nothing_takes_the_place_of_what_was_dropped_or_sent_meanwhile(outbox: Outbox) -> None:
    seg, sr = outbox.lacking.of(STUDY)
    outbox.delivered(seg.sop_instance_uid, "pacs", status=0, now=LATER)
    outbox.drop()
    for row in (seg, sr):
        assert outbox.lacking.rungs(row) == []
        assert not outbox.lacking.settle(row, [result(PR)], LADDER, now=LATER)
    assert states(outbox) == {SEG: DeliveryState.DELIVERED}


def test_a_refusal_that_came_while_it_was_drawn_is_not_forgotten(outbox: Outbox) -> None:
    before: LackingRow = outbox.lacking.of(STUDY)[0]
    refuse(outbox, result(SEG), LATER)
    outbox.lacking.settle(before, [], LADDER, now=LATER)
    assert outbox.lacking.studies() == {STUDY: LATER.timestamp()}


def test_what_lacks_is_known_after_a_restart(outbox: Outbox, tmp_path: Path) -> None:
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as again:
        assert again.lacking.of(STUDY) == outbox.lacking.of(STUDY) != []

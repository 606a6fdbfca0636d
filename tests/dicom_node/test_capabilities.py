from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.records import Result, ResultKind

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
HERE, THERE = "PACS@here:104", "PACS@there:104"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as opened:
        yield opened


def result(kind: ResultKind, version: int = 1) -> Result:
    uid = f"1.{list(ResultKind).index(kind)}.{version}"
    return Result(
        kind=kind,
        sop_instance_uid=uid,
        sop_class_uid=f"1.9.{list(ResultKind).index(kind)}",
        study_instance_uid="1.2",
        source_sop_instance_uid="1.3",
        path=Path(f"{uid}.dcm"),
        series_instance_uid="1.4",
        version=version,
    )


def states(outbox: Outbox, destination: str = "pacs") -> dict[ResultKind, DeliveryState]:
    return {row.kind: row.state for row in outbox.rows() if row.destination == destination}


def test_the_last_answer_counts_and_survives_a_restart(tmp_path: Path) -> None:
    for accepted, now in ((True, NOON), (False, LATER)):
        with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as outbox:
            outbox.capabilities.note("pacs", HERE, {"1.2.3": accepted, "1.2.4": True}, now=now)
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as outbox:
        assert outbox.capabilities.of("pacs", HERE) == {"1.2.3": False, "1.2.4": True}
        assert [row.asked_at for row in outbox.capabilities.rows()] == [LATER, LATER]


def test_nothing_is_known_of_a_destination_that_moved(outbox: Outbox) -> None:
    outbox.capabilities.note("pacs", HERE, {"1.2.3": True}, now=NOON)
    assert outbox.capabilities.of("pacs", THERE) == {}
    outbox.capabilities.note("pacs", THERE, {"1.2.4": False}, now=LATER)
    assert outbox.capabilities.of("pacs", THERE) == {"1.2.4": False}
    assert len(outbox.capabilities.rows()) == 1


def test_a_rung_of_the_same_version_takes_the_place_of_what_is_refused(outbox: Outbox) -> None:
    old = [result(kind) for kind in ResultKind]
    new = [result(kind, version=2) for kind in ResultKind]
    outbox.add(old, [], analysed="1.3", models="a", now=NOON)
    outbox.add(new, [(new[0], "pacs")], analysed="1.3", models="b", now=NOON)
    assert outbox.replace(new[0].sop_instance_uid, "pacs", ["pr", "sc"], now=LATER)
    rows = {row.sop_instance_uid: row for row in outbox.rows()}
    assert rows[new[0].sop_instance_uid].state is DeliveryState.WITHDRAWN
    assert "PR takes its place" in rows[new[0].sop_instance_uid].reason
    assert rows[new[2].sop_instance_uid].state is DeliveryState.WAITING
    [errand] = outbox.due(LATER)
    assert [one.kind for one in outbox.waiting(errand)] == [ResultKind.PR]


def test_a_rung_that_is_refused_too_is_passed_over(outbox: Outbox) -> None:
    written = [result(kind) for kind in ResultKind]
    seg, _, pr, _ = written
    outbox.add(written, [(seg, "pacs")], analysed="1.3", models="a", now=NOON)
    outbox.capabilities.note("pacs", HERE, {pr.sop_class_uid: False}, now=NOON)
    assert outbox.replace(seg.sop_instance_uid, "pacs", ["pr", "sc"], now=LATER)
    assert states(outbox)[ResultKind.SC] is DeliveryState.WAITING


def test_two_refused_objects_share_one_rung(outbox: Outbox) -> None:
    written = [result(kind) for kind in ResultKind]
    seg, sr, *_ = written
    owed = [(one, "pacs") for one in (seg, sr)]
    outbox.add(written, owed, analysed="1.3", models="a", now=NOON)
    for one in (seg, sr):
        assert outbox.replace(one.sop_instance_uid, "pacs", ["pr"], now=LATER)
    assert states(outbox) == {
        ResultKind.SEG: DeliveryState.WITHDRAWN,
        ResultKind.SR: DeliveryState.WITHDRAWN,
        ResultKind.PR: DeliveryState.WAITING,
    }


def test_without_a_rung_nothing_changes(outbox: Outbox) -> None:
    seg = result(ResultKind.SEG)
    outbox.add([seg], [(seg, "pacs")], analysed="1.3", models="a", now=NOON)
    assert not outbox.replace(seg.sop_instance_uid, "pacs", ["pr", "sc"], now=LATER)
    assert states(outbox) == {ResultKind.SEG: DeliveryState.WAITING}

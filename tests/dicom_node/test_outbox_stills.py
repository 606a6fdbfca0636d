"""SEGs of stills in the outbox: promised one by one, owed as one object."""

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.outbox import DeliveryState, MergedRow, Outbox, Refusal, Settlement
from dicom_node.outbox.stills import HOLD_S
from dicom_node.records import Merging, Result, ResultKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
STUDY, SERIES = "1.2", "1.4"
KINDS = tuple(ResultKind)
PACS = frozenset({"pacs"})


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as opened:
        yield opened


def result(image: str, kind: ResultKind = ResultKind.SEG, version: int = 1) -> Result:
    """Return one of the results of a still."""
    uid = f"{image}.{KINDS.index(kind)}.{version}"
    is_part = kind is ResultKind.SEG
    return Result(
        kind=kind,
        sop_instance_uid=uid,
        sop_class_uid=f"1.9.{KINDS.index(kind)}",
        study_instance_uid=STUDY,
        source_sop_instance_uid=image,
        path=Path("stills" if is_part else "", f"{uid}.dcm"),
        series_instance_uid=f"{image}.8",
        version=version,
        form="hybrid" if is_part else "",
        merging=Merging(series_instance_uid=SERIES, digest="d", most=9) if is_part else None,
    )


def said(
    outbox: Outbox, image: str, *kinds: ResultKind, version: int = 1, to: str = "pacs"
) -> None:
    """Let a model have spoken of a still; only the SEG is for somebody."""
    results = [result(image, kind, version) for kind in kinds or (ResultKind.SEG,)]
    owed = [(one, to) for one in results if one.kind is ResultKind.SEG]
    outbox.add(results, owed, analysed=image, models=f"m{version}", now=NOW)


def merged(*parts: Result, version: int = 1) -> MergedRow:
    uid = f"1.7.{version}"
    one = replace(
        parts[0],
        sop_instance_uid=uid,
        source_sop_instance_uid="",
        path=Path(f"{uid}.dcm"),
        series_instance_uid=SERIES,
        version=version,
        merging=None,
    )
    return MergedRow(result=one, parts=frozenset(part.sop_instance_uid for part in parts))


def settle(outbox: Outbox, *rows: MergedRow, kept: tuple[str, ...] = ()) -> None:
    settlement = Settlement(made=[(row, PACS) for row in rows], kept=kept)
    outbox.stills.settle(STUDY, settlement, now=LATER)


def states(outbox: Outbox) -> dict[str, DeliveryState]:
    return {row.sop_instance_uid: row.state for row in outbox.rows()}


def test_the_seg_of_a_still_is_promised_and_not_owed(outbox: Outbox, tmp_path: Path) -> None:
    said(outbox, "1.31")
    assert outbox.rows() == []
    [part] = outbox.stills.parts(STUDY)
    assert part.promised == PACS
    assert part.result == replace(result("1.31"), path=tmp_path / "1.31.0.1.dcm")


def test_a_promise_survives_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as opened:
            said(opened, "1.31")
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as opened:
        assert [part.promised for part in opened.stills.parts(STUDY)] == [PACS]


def test_only_what_was_said_last_is_a_part(outbox: Outbox) -> None:
    said(outbox, "1.31")
    said(outbox, "1.32")
    said(outbox, "1.31", version=2)
    said(outbox, "1.32", ResultKind.SR, version=2)  # nothing is found any more
    parts = [part.result.sop_instance_uid for part in outbox.stills.parts(STUDY)]
    assert parts == [result("1.31", version=2).sop_instance_uid]


def test_what_is_kept_in_the_shadow_is_no_part(outbox: Outbox) -> None:
    outbox.add_shadow([result("1.31")], analysed="1.31", models="m", now=NOW)
    assert outbox.stills.parts(STUDY) == []


def test_one_object_of_all_is_owed_once(outbox: Outbox) -> None:
    for image in ("1.31", "1.32"):
        said(outbox, image)
    row = merged(result("1.31"), result("1.32"))
    for _ in range(2):
        settle(outbox, row)
    assert states(outbox) == {"1.7.1": DeliveryState.WAITING}
    [found] = outbox.stills.merged(STUDY)
    assert found.parts == row.parts
    assert (found.result.series_instance_uid, found.result.version) == (SERIES, 1)


def test_a_later_version_withdraws_what_waits_of_the_one_before(outbox: Outbox) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31")))
    said(outbox, "1.32")
    settle(outbox, merged(result("1.31"), result("1.32"), version=2))
    assert states(outbox) == {
        "1.7.1": DeliveryState.WITHDRAWN,
        "1.7.2": DeliveryState.WAITING,
    }
    assert [row.result.version for row in outbox.stills.merged(STUDY)] == [1, 2]


def test_what_was_delivered_stays_delivered(outbox: Outbox) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31")))
    outbox.delivered("1.7.1", "pacs", status=0, now=LATER)
    said(outbox, "1.32")
    settle(outbox, merged(result("1.31"), result("1.32"), version=2))
    assert states(outbox) == {
        "1.7.1": DeliveryState.DELIVERED,
        "1.7.2": DeliveryState.WAITING,
    }


def test_an_object_of_which_nothing_is_said_any_more_is_withdrawn(outbox: Outbox) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31")))
    settle(outbox, kept=("1.7.1",))
    assert states(outbox) == {"1.7.1": DeliveryState.WAITING}
    settle(outbox)
    assert states(outbox) == {"1.7.1": DeliveryState.WITHDRAWN}


def test_what_cannot_be_merged_goes_by_itself_until_it_can(outbox: Outbox) -> None:
    said(outbox, "1.31")
    outbox.stills.settle(STUDY, Settlement(alone=outbox.stills.parts(STUDY)), now=LATER)
    assert states(outbox) == {"1.31.0.1": DeliveryState.WAITING}
    settle(outbox, merged(result("1.31")))
    assert states(outbox) == {
        "1.31.0.1": DeliveryState.WITHDRAWN,
        "1.7.1": DeliveryState.WAITING,
    }


def test_the_report_of_a_still_waits_for_the_seg_and_goes_with_it(outbox: Outbox) -> None:
    results = [result("1.31"), result("1.31", ResultKind.SR)]
    owed = [(one, "pacs") for one in results] + [(results[1], "reports")]
    outbox.add(results, owed, analysed="1.31", models="m", now=NOW)
    assert [errand.destination for errand in outbox.due(NOW)] == ["reports"]
    outbox.stills.settle(STUDY, Settlement(made=[(merged(results[0]), PACS)]), now=NOW)
    [errand] = [errand for errand in outbox.due(NOW) if errand.destination == "pacs"]
    assert [one.kind for one in outbox.waiting(errand)] == [ResultKind.SEG, ResultKind.SR]


def test_the_report_of_a_still_does_not_wait_for_ever(outbox: Outbox) -> None:
    results = [result("1.31"), result("1.31", ResultKind.SR)]
    outbox.add(results, [(one, "pacs") for one in results], analysed="1.31", models="m", now=NOW)
    assert outbox.due(NOW + timedelta(seconds=HOLD_S - 1)) == []
    [errand] = outbox.due(NOW + timedelta(seconds=HOLD_S))
    assert [one.kind for one in outbox.waiting(errand)] == [ResultKind.SR]


def test_what_was_tried_in_vain_is_not_tried_sooner_for_a_seg(outbox: Outbox) -> None:
    results = [result("1.31"), result("1.31", ResultKind.SR)]
    outbox.add(results, [(one, "pacs") for one in results], analysed="1.31", models="m", now=NOW)
    sr = results[1].sop_instance_uid
    outbox.postpone(sr, "pacs", status=None, reason="", now=NOW, rng=random.Random(0))
    [before] = outbox.rows()
    outbox.stills.settle(STUDY, Settlement(), now=NOW)
    assert outbox.rows() == [before]


def test_a_rung_of_every_image_takes_the_place_of_a_refused_object(outbox: Outbox) -> None:
    said(outbox, "1.31", ResultKind.SEG, ResultKind.PR, ResultKind.SC)
    said(outbox, "1.32", ResultKind.SEG, ResultKind.SC, version=2)
    settle(outbox, merged(result("1.31"), result("1.32", version=2)))
    assert outbox.replace("1.7.1", "pacs", ["pr", "sc"], now=LATER)
    rows = {row.sop_instance_uid: row for row in outbox.rows()}
    assert {uid: row.state for uid, row in rows.items()} == {
        "1.7.1": DeliveryState.WITHDRAWN,
        result("1.31", ResultKind.PR).sop_instance_uid: DeliveryState.WAITING,
        result("1.32", ResultKind.SC, 2).sop_instance_uid: DeliveryState.WAITING,
    }
    assert "PR and SC take its place" in rows["1.7.1"].reason


def test_where_one_image_has_no_rung_the_refused_object_is_not_forgotten(outbox: Outbox) -> None:
    said(outbox, "1.31", ResultKind.SEG, ResultKind.PR)
    said(outbox, "1.32", ResultKind.SEG)
    settle(outbox, merged(result("1.31"), result("1.32")))
    assert not outbox.replace("1.7.1", "pacs", ["pr", "sc"], now=LATER)
    assert states(outbox) == {
        "1.7.1": DeliveryState.WAITING,
        result("1.31", ResultKind.PR).sop_instance_uid: DeliveryState.WAITING,
    }


def test_the_next_edition_of_an_image_does_not_follow_upon_an_object_of_several(
    outbox: Outbox,
) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31"), version=7))
    edition = outbox.next_edition("1.31", study_revision=1)
    assert edition.version == 2
    assert [one.sop_instance_uid for one in edition.predecessors] == ["1.31.0.1"]


def test_who_asks_later_sees_one_object_and_its_images(outbox: Outbox) -> None:
    for image in ("1.31", "1.32"):
        said(outbox, image, ResultKind.SEG, ResultKind.SR)
    # what is to be merged is no object yet
    assert {row.kind for row in outbox.trail.passed(STUDY)} == {ResultKind.SR}
    settle(outbox, merged(result("1.31"), result("1.32")))
    assert [(row.kind, row.images) for row in outbox.trail.passed(STUDY)] == [
        (ResultKind.SR, ("1.31",)),
        (ResultKind.SR, ("1.32",)),
        (ResultKind.SEG, ("1.31", "1.32")),
    ]


def lost(outbox: Outbox, uid: str) -> DeliveryState:
    """Let a destination that stored an object say that it does not have it; return its state."""
    refusal = Refusal(state=DeliveryState.WAITING, status=0x0112, reason="no such object")
    outbox.promises.stored(uid, "pacs", status=0, now=LATER)
    outbox.promises.ask("1.99", "pacs", [uid], LATER)
    rng = random.Random(0)
    outbox.promises.settle("1.99", (), {uid: refusal}, now=LATER, rng=rng)
    return states(outbox)[uid]


def test_a_merged_object_that_the_pacs_lost_is_sent_again(outbox: Outbox) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31")))
    other = replace(result("1.51"), study_instance_uid="1.3", source_sop_instance_uid="")
    foreign = replace(other, series_instance_uid="1.5", path=Path("f.dcm"), version=2, merging=None)
    outbox.stills.settle(
        "1.3",
        Settlement(made=[(MergedRow(result=foreign, parts=frozenset()), PACS)]),
        now=LATER,
    )
    assert lost(outbox, "1.7.1") is DeliveryState.WAITING


def test_a_merged_object_that_the_pacs_lost_stays_away_behind_its_next_version(
    outbox: Outbox,
) -> None:
    said(outbox, "1.31")
    settle(outbox, merged(result("1.31")))
    outbox.promises.stored("1.7.1", "pacs", status=0, now=LATER)
    said(outbox, "1.32")
    settle(outbox, merged(result("1.31"), result("1.32"), version=2))
    assert lost(outbox, "1.7.1") is DeliveryState.WITHDRAWN

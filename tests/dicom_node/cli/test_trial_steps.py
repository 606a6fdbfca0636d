from typing import Any

from dicom_node.cli.trial_steps import Step, steps
from dicom_node.config import Config, Destination, HarvestSettings

PACS = Destination(name="pacs", ae_title="PACS", host="h", port=104)
CONFIG = Config(destinations=(PACS,))
MODEL = {"name": "organs", "version": "1", "failures": []}


def delivery(state: str = "delivered", **more: Any) -> dict[str, Any]:
    row = {"destination": "pacs", "kind": "sr", "state": state, "attempts": 1, "reason": ""}
    return row | more


def found(**more: Any) -> dict[str, Any]:
    """Return what is known of a study that went all the way."""
    known: dict[str, Any] = {
        "study": {"state": "complete", "revision": 1, "worked_on_to_revision": 1},
        "where": {"word": "done", "sentence": "all was delivered"},
        "received": {"images": 3},
        "completions": [{"reason": "nothing came for 30 s"}],
        "harvested": {"enabled": True, "images": 3, "of": 3, "left_out": {"phantom": 3}},
        "inferred": {"has_models": True, "models": [MODEL]},
        "validated": {"rejected": []},
        "delivered": [delivery(), delivery(kind="seg")],
    }
    return known | more


def missing(known: dict[str, Any] | None, config: Config = CONFIG) -> list[Step]:
    return [step for step in steps(known, config, 3) if not step.is_done]


def test_nothing_is_missing_of_a_study_that_went_all_the_way() -> None:
    now = steps(found(), CONFIG, 3)
    assert all(step.is_done for step in now)
    assert {step.what: step.found for step in now} == {
        "registered": "3 of 3 images",
        "complete": "nothing came for 30 s",
        "harvested": "looked at, and not stored: 3 phantom",
        "analysed": "organs 1",
        "delivered to pacs": "SEG, SR",
    }


def test_a_study_that_the_node_does_not_know_is_told_with_the_first_look() -> None:
    [step] = missing(None)
    assert "does it run" in step.missing
    assert not step.is_final


def test_an_image_that_comes_late_opens_the_study_again() -> None:
    known = found(study={"state": "open", "revision": 1, "worked_on_to_revision": 1})
    assert [step.what for step in missing(known)] == ["complete"]


def test_what_a_destination_does_not_take_is_named_and_dead_letters_end_the_wait() -> None:
    owed = delivery("waiting", attempts=2, reason="connection refused")
    [step] = missing(found(delivered=[owed]))
    assert step.missing == "SR owed after 2 tries: connection refused"
    assert not step.is_final
    [step] = missing(found(delivered=[delivery("dead", reason="0xA900")]))
    assert step.is_final


def test_no_results_are_told_with_their_reason() -> None:
    failed = MODEL | {"failures": [{"reason": "out of memory"}]}
    rejected = {"rejected": [{"reason": "no code"}]}
    for more, reason in (
        ({"inferred": {"has_models": True, "models": [failed]}}, "out of memory"),
        ({"validated": rejected}, "no code"),
        ({"inferred": {"has_models": False, "models": []}}, "bundles is null"),
        ({}, "no model takes these images"),
    ):
        [step] = missing(found(delivered=[], **more))
        assert reason in step.missing
        assert step.is_final


def test_a_node_without_harvest_and_destinations_is_done_when_its_models_are() -> None:
    only_models = Config(harvest=HarvestSettings(enabled=False))
    harvested = {"enabled": False, "images": 0, "of": 3, "left_out": {}}
    assert missing(found(harvested=harvested, delivered=[]), only_models) == []


def test_work_that_failed_ends_the_wait() -> None:
    known = found(
        study={"state": "complete", "revision": 1, "worked_on_to_revision": 0},
        where={"word": "failed", "sentence": "its work failed; dicom-node queue retry"},
        delivered=[],
    )
    analysed = missing(known)[0]
    assert (analysed.what, analysed.is_final) == ("analysed", True)
    assert "queue retry" in analysed.missing

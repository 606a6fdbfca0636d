from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import Destination
from dicom_node.forms import ReportForm, SegmentationForm
from dicom_node.ladder import classes_of_kinds, missing, route
from dicom_node.records import Result, ResultKind
from dicom_node.sop_classes import RESULTS

SEG, SR, PR, SC = ResultKind


def destination(*send: str, fallback: tuple[str, ...] = ("pr", "sc"), **forms: Any) -> Destination:
    address = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    return Destination(**address, send=send, fallback=fallback, **forms)


CLASSES_OF_KIND = classes_of_kinds(destination())
CLASSES = {kind: classes[0] for kind, classes in CLASSES_OF_KIND.items()}


def accepting(*kinds: ResultKind) -> dict[str, bool]:
    """Return the answers of a destination that was asked and accepts these kinds."""
    return {one: kind in kinds for kind, classes in CLASSES_OF_KIND.items() for one in classes}


@pytest.mark.parametrize(
    ("send", "fallback", "accepted", "goes"),
    [
        (("seg", "sr"), ("pr", "sc"), (SEG, SR, PR, SC), {SEG, SR}),
        (("seg", "sr"), ("pr", "sc"), (SR, PR, SC), {PR, SR}),
        (("seg", "sr"), ("pr", "sc"), (SEG, PR, SC), {SEG, PR}),
        (("seg", "sr"), ("pr", "sc"), (PR, SC), {PR}),
        (("seg", "sr"), ("pr", "sc"), (SC,), {SC}),
        (("seg", "sr"), ("sc", "pr"), (PR, SC), {SC}),
        (("seg", "sr"), ("pr", "sc"), (), {SEG, SR}),
        (("seg", "sr"), (), (PR, SC), {SEG, SR}),
        (("pr",), ("pr", "sc"), (SC,), {SC}),
        (("seg", "sc"), ("pr",), (SEG, SC, PR), {SEG, SC}),
    ],
)
def test_what_is_refused_is_replaced_by_the_first_accepted_rung(
    send: tuple[str, ...],
    fallback: tuple[str, ...],
    accepted: tuple[ResultKind, ...],
    goes: set[ResultKind],
) -> None:
    found = route(destination(*send, fallback=fallback), CLASSES, accepting(*accepted))
    assert {chosen for _, chosen in found.choices} == goes
    assert found.reserve == frozenset()


def test_while_nobody_knows_the_wanted_is_owed_and_the_rungs_are_in_reserve() -> None:
    found = route(destination("seg", "sr"), CLASSES, {})
    assert found.choices == ((SEG, SEG), (SR, SR))
    assert found.reserve == {PR, SC}
    assert found.kinds == {SEG, SR, PR, SC}
    assert route(destination("seg", fallback=()), CLASSES, {}).reserve == frozenset()


def test_a_rung_of_which_nothing_is_known_has_the_next_one_in_reserve() -> None:
    found = route(destination("seg"), CLASSES, {CLASSES[SEG]: False})
    assert (found.choices, found.reserve) == (((SEG, PR),), {SC})


def test_nothing_takes_the_place_of_an_object_that_the_image_does_not_give() -> None:
    classes = {kind: uid for kind, uid in CLASSES.items() if kind is not SEG}
    found = route(destination("seg", "sr"), classes, accepting(SR, PR, SC))
    assert found.choices == ((SR, SR),)


def test_an_image_over_which_nothing_can_be_drawn_keeps_its_report_owed() -> None:
    found = route(destination("sr"), {SR: CLASSES[SR]}, accepting(PR, SC))
    assert found.choices == ((SR, SR),)


def test_what_could_not_be_written_leaves_the_wanted_owed() -> None:
    found = route(destination("seg"), CLASSES, accepting(PR, SC))
    seg = Result(
        kind=SEG,
        sop_instance_uid="1.1",
        sop_class_uid=CLASSES[SEG],
        study_instance_uid="1.2",
        source_sop_instance_uid="1.3",
        path=Path("1.1.dcm"),
        form="hybrid",
    )
    assert found.owed([seg]) == [seg]


def test_a_destination_gets_no_other_form_than_the_one_that_it_takes() -> None:
    wants = destination("seg", "sr", segmentation="labelmap", report="enhanced")
    label_map, enhanced = (classes_of_kinds(wants)[kind][0] for kind in (SEG, SR))
    found = route(wants, CLASSES, accepting(SEG, SR, PR) | {label_map: False, enhanced: True})
    assert found.choices == ((SEG, PR), (SR, SR))


def test_every_class_of_the_ladder_is_one_that_destinations_are_asked_about() -> None:
    wanted = {
        one
        for segmentation in SegmentationForm
        for report in ReportForm
        for classes in classes_of_kinds(
            destination(segmentation=segmentation.value, report=report.value)
        ).values()
        for one in classes
    }
    assert wanted == set(RESULTS)


def test_check_misses_only_what_no_rung_replaces() -> None:
    assert missing(destination("seg", "sr"), accepting(SC)) == []
    assert missing(destination("seg", "sr", fallback=("pr",)), accepting(SR, SC)) == [SEG]
    assert missing(destination("seg"), {}) == []

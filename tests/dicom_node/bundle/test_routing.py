from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.bundle import Candidate, Routing
from dicom_node.records import Box, Geometry, ImageFacts

STILL = ImageFacts(
    rows=480,
    columns=640,
    number_of_frames=1,
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    region=Box(left=0, top=0, right=640, bottom=480),
    spacing_mm=(0.2, 0.2),
)
IMAGE = Candidate(
    groups=frozenset({"liver", "abdomen"}),
    geometry=Geometry.CURVILINEAR,
    facts=STILL,
    header={
        "Manufacturer": "GE Healthcare",
        "ManufacturerModelName": "LOGIQ E10",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1",
        "ImageType": "ORIGINAL\\PRIMARY\\ABDOMINAL",
        "Modality": "US",
        "BodyPartExamined": "",
    },
)


def rule(**conditions: Any) -> Routing:
    return Routing.model_validate(conditions)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"groups": ["liver"], "geometries": ["curvilinear", "linear"]},
        {"region": "present"},
        {"region": "calibrated"},
        {"frames": {"max": 1}},
        {"header": {"Manufacturer": ["philips*", "ge*"]}},
        {"header": {"Manufacturer": ["GE*"], "ManufacturerModelName": ["logiq e?0"]}},
        {"header": {"SOPClassUID": ["1.2.840.10008.5.1.4.1.1.6.1"]}},
        {"header": {"ImageType": ["abdominal"]}},
        {"header": {"BodyPartExamined": ["", "ABDOMEN"]}},
    ],
)
def test_an_image_that_meets_every_condition_is_taken(conditions: dict[str, Any]) -> None:
    assert rule(**conditions).takes(IMAGE)


@pytest.mark.parametrize(
    "conditions",
    [
        {"groups": ["thyroid"]},
        {"geometries": ["linear"]},
        {"frames": {"min": 2}},
        {"header": {"Manufacturer": ["GE"]}},
        {"header": {"Manufacturer": ["GE*"], "Modality": ["IVUS"]}},
        {"header": {"BodyPartExamined": ["ABDOMEN"]}},
        {"header": {"StationName": ["ROOM*"]}},
    ],
)
def test_an_image_that_misses_one_condition_is_not_taken(conditions: dict[str, Any]) -> None:
    assert not rule(**conditions).takes(IMAGE)


def test_a_region_may_be_wanted_and_its_scale() -> None:
    uncalibrated = replace(IMAGE, facts=replace(STILL, spacing_mm=None))
    without = replace(IMAGE, facts=replace(STILL, region=None, spacing_mm=None))
    taken = {
        wanted: [rule(region=wanted).takes(image) for image in (IMAGE, uncalibrated, without)]
        for wanted in ("any", "present", "calibrated")
    }
    assert taken == {
        "any": [True, True, True],
        "present": [True, True, False],
        "calibrated": [True, False, False],
    }


@pytest.mark.parametrize(("count", "taken"), [(1, False), (9, False), (10, True), (200, True)])
def test_a_cine_may_be_wanted_of_some_length(count: int, taken: bool) -> None:
    cine = replace(IMAGE, facts=replace(STILL, number_of_frames=count))
    assert rule(frames={"min": 10, "max": 200}).takes(cine) is taken


def test_of_an_unreadable_header_the_labels_decide_alone() -> None:
    unreadable = Candidate(groups=IMAGE.groups, geometry=IMAGE.geometry)
    wanted = {"frames": {"min": 2}, "header": {"Manufacturer": ["GE"]}}
    assert rule(groups=["liver"], **wanted).takes(unreadable)
    assert not rule(groups=["thyroid"], **wanted).takes(unreadable)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"header": {"Manufacterer": ["GE*"]}}, "'Manufacterer' is no keyword"),
        ({"header": {"PatientName": ["A*"]}}, "'PatientName' is no keyword of an attribute with"),
        ({"header": {"PixelData": ["A*"]}}, "'PixelData' is no keyword"),
        ({"header": {"Modality": []}}, "at least 1 item"),
        ({"groups": ["livr"]}, "liver"),
        ({"region": "perhaps"}, "calibrated"),
        ({"frames": {"min": 3, "max": 2}}, "no image has 3 frames or more and 2 or less"),
        ({"frames": {"least": 3}}, "least"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(conditions: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        rule(**conditions)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({}, "all images"),
        (
            {"groups": ["liver", "kidney", "abdomen"], "geometries": ["curvilinear"]},
            "images of the study groups liver, kidney or abdomen, from probes that are curvilinear",
        ),
        (
            {"region": "calibrated", "frames": {"max": 1}, "header": {"Manufacturer": ["GE*"]}},
            "images with a calibrated B-mode region, that are stills, whose Manufacturer is GE*",
        ),
        ({"region": "present"}, "images with a B-mode region"),
        ({"frames": {"min": 2}}, "images that are cines"),
        ({"frames": {"min": 10}}, "images of 10 frames or more"),
        ({"frames": {"max": 9}}, "images of 1 to 9 frames"),
        (
            {"header": {"BodyPartExamined": ["", "LIVER"]}},
            "images whose BodyPartExamined is absent or LIVER",
        ),
    ],
)
def test_a_rule_is_a_sentence(conditions: dict[str, Any], said: str) -> None:
    assert rule(**conditions).sentence() == said

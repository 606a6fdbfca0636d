import pytest

from dicom_node.bundle import Manifest
from dicom_node.config import InferSettings
from dicom_node.infer.choice import Role, newness, roles, routes, strangers

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from dicom_node.records import Task
from tests.support.bundles import manifest_values

SERVES, SHADOW, RESTS = Role.SERVES, Role.SHADOW, Role.RESTS


def bundle(name: str, version: str) -> Manifest:
    values = manifest_values(Task.QUALITY) | {"name": name, "version": version}
    return Manifest.model_validate(values)


FOLDER = [bundle("liver", "1"), bundle("liver", "3"), bundle("liver", "2"), bundle("view", "1")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [RESTS, SERVES, RESTS, SERVES]),
        ({"versions": {"liver": "2"}}, [RESTS, RESTS, SERVES, SERVES]),
        ({"shadow": ("liver@3",)}, [RESTS, SHADOW, SERVES, SERVES]),
        ({"shadow": ("liver@3", "liver@1")}, [SHADOW, SHADOW, SERVES, SERVES]),
        ({"shadow": ("liver",)}, [RESTS, SHADOW, RESTS, SERVES]),
        ({"shadow": ("liver", "liver@3")}, [RESTS, SHADOW, SHADOW, SERVES]),
        ({"versions": {"liver": "9"}}, [RESTS, RESTS, RESTS, SERVES]),
        ({"versions": {"liver": "2"}, "shadow": ("liver@3",)}, [RESTS, SHADOW, SERVES, SERVES]),
    ],
)
def test_one_version_of_a_model_serves(settings: dict[str, object], expected: list[Role]) -> None:
    found = roles(FOLDER, InferSettings.model_validate(settings))
    assert [role for role, _ in found] == expected


def test_what_rests_says_why() -> None:
    assert [why for _, why in roles(FOLDER, InferSettings())] == [
        "version 3 is newer",
        "",
        "version 3 is newer",
        "",
    ]
    named = roles(FOLDER, InferSettings(versions={"liver": "2"}))
    assert named[1] == (RESTS, "infer.versions names 2")
    twice = roles([bundle("liver", "1"), bundle("liver", "1")], InferSettings())
    assert twice == [(RESTS, "a later file is of the same version"), (SERVES, "")]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1", "2"),
        ("9", "10"),
        ("1.9", "1.10"),
        ("1.9", "2"),
        ("20260101.235959", "20260102.000000"),
    ],
)
def test_numbers_in_versions_count_as_numbers(older: str, newer: str) -> None:
    assert newness(older) < newness(newer)


def test_the_rule_of_the_site_is_checked_and_its_fault_named() -> None:
    rule = {"groups": ["liver"], "header": {"Modality": ["US"]}}
    given = {"view": rule, "liver": {"groups": ["livr"]}, "chest": {"colour": 1}}
    rules, faults = routes(InferSettings(routes=given))
    assert rules["view"].groups == ("liver",)
    assert faults["liver"].startswith("infer.routes.liver.groups.0: 'livr' will not do")
    assert "infer.routes.chest.colour" in faults["chest"]
    assert "known here: groups, geometries, region, frames, header" in faults["chest"]


def test_settings_that_speak_of_no_bundle_are_named() -> None:
    settings = InferSettings(
        versions={"liver": "4"}, routes={"lung": {}}, shadow=("view", "view@2", "liver@1")
    )
    said = list(strangers(FOLDER, settings))
    assert [sentence.split(" is not")[0] for sentence in said] == [
        "infer.versions: liver@4",
        "infer.routes: lung",
        "infer.shadow: view@2",
    ]
    assert "there: liver@1, liver@2, liver@3, view@1" in said[0]

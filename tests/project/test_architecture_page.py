"""docs/architecture.md names floors, files, keys and places that exist."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dicom_node.config import Config
from dicom_node.node.layout import Layout

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")


def _floors() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    [floors] = [one["layers"] for one in contracts if one["name"] == "Node floors"]
    return list(floors)


def test_the_floors_are_those_that_import_linter_enforces() -> None:
    shown = TEXT.split("## Floors")[1].split("```")[1]
    assert shown.strip().splitlines() == _floors(), "copy the layers of pyproject.toml"


@pytest.mark.parametrize(
    "place", sorted({*re.findall(r"`((?:dicom_node|tests|training)/[\w./]+)`", TEXT)})
)
def test_a_file_that_keeps_or_tests_a_promise_exists(place: str) -> None:
    assert (REPOSITORY / place).exists()


def test_every_promise_names_code_and_a_test() -> None:
    rows = TEXT.split("## Where each promise is kept")[1].split("## Floors")[0]
    promises = [line.split("|")[1:4] for line in rows.splitlines() if line.startswith("| ")][1:]
    assert len(promises) >= 10
    for promise, code, tests in promises:
        assert "`" in code, promise
        assert "`tests/" in tests, promise


def test_every_place_of_the_data_folder_is_named() -> None:
    layout = Layout(Path())
    places = (layout.inbox, layout.index, layout.outbox, layout.jobs, layout.results)
    for place in (*places, layout.pulls, layout.store):
        assert f"`{place.name}" in TEXT, place


def test_keys_of_the_configuration_that_it_names_exist() -> None:
    named = set(re.findall(r"`(node|infer)\.([a-z_]+)`", TEXT))
    assert ("node", "processes") in named
    for section, key in named:
        fields = type(getattr(Config(), section)).model_fields
        assert key in fields, f"{section}.{key}"


def test_the_picture_is_whole_and_says_what_it_shows() -> None:
    path = REPOSITORY / "docs" / "architecture.svg"
    root = ElementTree.fromstring(path.read_text("utf-8"))  # noqa: S314 - our own file
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names[:2] == ["title", "desc"]
    assert "prefers-color-scheme: dark" in path.read_text("utf-8")
    shown = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"receive", "register", "complete", "harvest", "analyse", "results", "deliver"} <= shown

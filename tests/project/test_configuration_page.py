"""docs/configuration.md says what the models of the configuration check."""

from pathlib import Path

import pytest
import yaml

from dicom_node import config
from tests.support.configuration import (
    PAGE,
    Place,
    example,
    example_of,
    examples,
    places,
    undescribed,
    written,
)

TEXT = PAGE.read_text("utf-8")
PLACES = places()


def test_the_reference_is_made_of_the_models_that_check_the_file() -> None:
    assert written(TEXT) == TEXT, "python -m tests.support.configuration writes it anew"


def test_the_models_say_what_every_key_does() -> None:
    assert undescribed() == [], "put a comment that begins with #: above them"


def test_the_example_of_the_page_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(example(TEXT), "utf-8")
    assert config.load(path).node.tls is not None


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.title)
def test_the_example_names_every_key_of_a_section_and_no_other(place: Place) -> None:
    for name in place.model.model_fields:
        example_of(place, name, examples(TEXT))


def test_every_section_of_the_file_to_begin_with_has_a_place_in_the_reference() -> None:
    begin = yaml.safe_load((PAGE.parents[1] / "deploy" / "node.yaml").read_text("utf-8"))
    [whole] = [place for place in PLACES if not place.path]
    assert set(begin) == set(whole.model.model_fields)


@pytest.mark.parametrize(
    ("path", "name", "cells"),
    [
        ("infer", "threads", ["whole number or null", "", "`null`", "at least 1"]),
        ("infer", "versions", ["mapping of text to text", "", "`{}`", ""]),
        ("node", "min_free_gib", ["number", "GiB", "`1.0`", "at least 0"]),
        ("node.callers[]", "host", ["text", "", "`*`", ""]),
    ],
)
def test_a_row_has_type_unit_default_and_bounds(path: str, name: str, cells: list[str]) -> None:
    section = TEXT.split(f"### {path}\n")[1].split("###")[0]
    [row] = [line for line in section.splitlines() if line.startswith(f"| `{name}` |")]
    assert [cell.strip() for cell in row.split("|")[2:6]] == cells

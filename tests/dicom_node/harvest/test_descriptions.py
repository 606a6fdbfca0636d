from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest.descriptions import load_map
from dicom_node.records import GROUPS


def test_both_shipped_maps_have_the_44_rows_of_the_table() -> None:
    assert len(load_map("as_printed")) == len(load_map("corrected")) == 44


def test_the_corrected_map_differs_where_the_table_contradicts_itself() -> None:
    printed, corrected = load_map("as_printed"), load_map("corrected")
    left = "US BIOPSY KIDNEY FOCAL (LEFT)"
    assert printed.groups(left) == {"liver", "abdomen"}
    assert corrected.groups(left) == {"kidney", "abdomen"}
    same = "US PARACENTESIS THERAPEUTIC"
    assert printed.groups(same) == corrected.groups(same) == {"abdomen", "drainage"}


def test_case_and_space_make_no_difference() -> None:
    assert load_map("corrected").groups("  us  thyroid\tBiopsy \0") == {"thyroid", "nodule"}


def test_a_description_that_is_not_mapped_is_not_guessed() -> None:
    assert load_map("corrected").groups("US LIVER") is None
    assert load_map("corrected").groups("") is None


def test_the_sites_rows_win(tmp_path: Path) -> None:
    site = tmp_path / "site.csv"
    site.write_text(
        "study_description,groups,note\n"
        "Abdomen komplett,Liver; kidney;abdomen,\n"
        "US THYROID BIOPSY,thyroid,\n"
        "Untersuchung,,says nothing\n",
        "utf-8",
    )
    found = load_map("corrected", site)
    assert found.groups("ABDOMEN KOMPLETT") == {"liver", "kidney", "abdomen"}
    assert found.groups("US THYROID BIOPSY") == {"thyroid"}
    assert found.groups("Untersuchung") == frozenset()
    assert found.groups("US BIOPSY LIVER FOCAL") == {"liver", "abdomen"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("description,groups\n", "site.csv:1: no column 'study_description'"),
        ("study_description,groups\nUS HEART,heart\n", "site.csv:2: unknown group 'heart'"),
        ("study_description,groups\n ,liver\n", "site.csv:2: no study description"),
        ("study_description,groups\nA,liver\na,kidney\n", "site.csv:3: stands twice"),
        ("", "no column"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, content: str, fault: str
) -> None:
    site = tmp_path / "site.csv"
    site.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=fault):
        load_map("corrected", site)


def test_a_map_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_map("corrected", tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="no map"):
        load_map("mine")


@pytest.mark.parametrize("name", ["as_printed", "corrected"])
def test_every_group_of_the_papers_occurs(name: str) -> None:
    found = load_map(name)
    rows = ("US DRAINAGE LIVER", "US THORACENTESIS DIAGNOSTIC (LEFT)", "US THYROID BIOPSY")
    more = ("US NECK SOFT TISSUE BIOPSY", "US BIOPSY TRANSPLANTED KIDNEY")
    assert frozenset().union(*(found.groups(r) or () for r in rows + more)) == set(GROUPS)

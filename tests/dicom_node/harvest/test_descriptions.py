from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest.descriptions import load_map, normalised
from dicom_node.records import GROUPS
from dicom_node.store import Source


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
        (
            "study_description,groups,source\nA,liver,BodyPart\n",
            "site.csv:2: unknown source 'BodyP",
        ),
        ("study_description,groups\nUS HEART,heart\n", "site.csv:2: unknown group 'heart'"),
        ("study_description,groups\n ,liver\n", "site.csv:2: no study description"),
        ("study_description,groups\nA,liver\na,kidney\n", "site.csv:3: stands twice"),
        ("study_description,groups\nUS ABDO,abdomen,liver\n", "site.csv:2: .*separate groups by"),
        ("study_description,groups\nA,liver\nUS ABDO\n", "site.csv:3: 1 cells, and the header has"),
        (
            "study_description,groups,sorce\nA,liver,ImageType\n",
            "site.csv:1: unknown column 'sorce'",
        ),
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


def test_a_text_is_the_same_in_every_character_set() -> None:
    known = load_map("corrected")
    assert known.groups("\uff35\uff33 THYROID\u00a0BIOPSY") == {"thyroid", "nodule"}
    # the umlaut as one code point, and as a letter with a mark
    assert normalised("m\u00fcsc") == normalised("mu\u0308sc") == "M\u00dcSC"


@pytest.mark.parametrize(
    ("source", "words", "groups", "rule"),
    [
        (Source.IMAGE_TYPE, "renal", {"abdomen", "kidney"}, "second sources"),
        (Source.IMAGE_TYPE, "OBSTETRICAL", set(), "second sources"),
        (Source.IMAGE_TYPE, "SMALL PARTS", None, None),
        (Source.PROCESSING_FUNCTION, "ABD_GENERAL", {"abdomen"}, "second sources"),
        (Source.ANATOMIC_REGION_SEQUENCE, "SCT:10200004", {"abdomen", "liver"}, "second sources"),
        (Source.STUDY_DESCRIPTION, "RENAL", None, None),
        (Source.PROCESSING_FUNCTION, "US THYROID BIOPSY", None, None),
        (
            Source.PERFORMED_PROCEDURE_STEP_DESCRIPTION,
            "US THYROID BIOPSY",
            {"thyroid", "nodule"},
            "corrected",
        ),
    ],
)
def test_words_are_mapped_by_the_attribute_that_they_stand_in(
    source: Source, words: str, groups: set[str] | None, rule: str | None
) -> None:
    found = load_map("corrected").mapped(source, words)
    assert (found and set(found.groups), found and found.rule) == (groups, rule)


def test_the_site_maps_other_sources_in_the_same_file_and_decisions_win(tmp_path: Path) -> None:
    site = tmp_path / "site.csv"
    site.write_text(
        "source,study_description,groups\nImageType,Small Parts,thyroid\n,HALS,thyroid\n"
    )
    known = load_map("as_printed", site)
    small = known.mapped(Source.IMAGE_TYPE, "SMALL PARTS")
    assert small is not None
    assert (small.groups, small.rule) == ({"thyroid"}, "site")
    decided = known.with_decisions({(Source.STUDY_DESCRIPTION, "HALS"): frozenset({"nodule"})})
    assert (known.groups("hals"), decided.groups("hals")) == ({"thyroid"}, {"nodule"})
    printed = known.mapped(Source.STUDY_DESCRIPTION, "US THYROID BIOPSY")
    assert printed is not None
    assert printed.rule == "as printed"

from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest.site_csv import site_rows, site_text


def _rows(text: str) -> list[tuple[str, dict[str, str]]]:
    return list(site_rows(text, "site.csv", columns=("words", "groups"), more=("source",)))


def test_a_row_comes_with_the_line_that_it_begins_in() -> None:
    text = 'groups,words,why\n\nliver,"US, ABDO",\nkidney,"US\nKIDNEY",two lines\n,HEART,none\n'
    assert [(where, row["words"], row["source"]) for where, row in _rows(text)] == [
        ("site.csv:3", "US, ABDO", ""),
        ("site.csv:4", "US\nKIDNEY", ""),
        ("site.csv:6", "HEART", ""),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("words,groups\nA,liver,kidney\n", "site.csv:2: 3 cells, and the header has 2; put a cell"),
        ("words,groups\nA,liver\nB\n", "site.csv:3: 1 cells, and the header has 2"),
        ('words,groups\nA,liver\n"B,liver\nC,kidney\n', "site.csv:3: no row of a CSV"),
        ('words,groups\n"B,liver\n"C",kidney\n', "site.csv:2: no row of a CSV"),
        (f"words,groups\n{'A' * 131_073},liver\n", "site.csv:2: no row of a CSV"),
        ("words,groups,sorce\n", "site.csv:1: unknown column 'sorce'; known: groups, note, sour"),
        ("words,groups,\n", "site.csv:1: unknown column ''"),
        ("words,groups,words\n", "site.csv:1: column 'words' stands twice; keep one"),
        ("\nwords\n", "site.csv:2: no column 'groups'; the columns are ('words', 'groups')"),
        ("", "site.csv:1: no column 'words'"),
        ("words;groups\n", "site.csv:1: one cell, and no comma; put commas between the cells"),
    ],
)
def test_what_would_be_read_wrongly_is_an_error_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        _rows(text)
    assert fault in str(raised.value)


def test_a_file_that_cannot_be_read_names_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "site.csv"
    path.write_bytes(b"words\xff\n")
    with pytest.raises(ConfigError, match=r"harvest\.site_labels cannot be read .*CSV in UTF-8"):
        site_text(path, "harvest.site_labels")

from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from dicom_node.harvest import load_reader_codes
from dicom_node.harvest.reader_codes import NOTHING, Meaning, code_of
from dicom_node.store.label_sets import label_sets

HEADER = "code,label,stands_for\n"


def test_every_label_of_the_store_is_known_by_its_code() -> None:
    codes = load_reader_codes()
    for name, labels in label_sets().items():
        for value, label in enumerate(labels.labels, start=1):
            code = code_of(label.type.value, label.type.scheme)
            assert codes.meaning(code) == Meaning(about=name, value=value)


def test_a_code_that_nobody_maps_has_no_meaning() -> None:
    assert load_reader_codes().meaning("SCT:78961009", "Spleen") is None


def test_the_site_wins_and_a_label_wins_over_its_code(tmp_path: Path) -> None:
    site = tmp_path / "codes.csv"
    site.write_text(
        HEADER + "SCT:52988006,,\nSRT:T-D0050, Left  liver lobe ,liver-kidney/liver\n"
        "SCT:85756007,,liver-kidney/kidney\n99X:A,,quality/3\n99X:B,,breast/malignant\n"
    )
    codes = load_reader_codes(site)
    assert codes.meaning("SCT:52988006") == NOTHING
    tissue = code_of("T-D0050", "SRT")
    assert codes.meaning(tissue, "left liver LOBE") == Meaning(about="liver-kidney", value=1)
    assert codes.meaning(tissue, "anything") == Meaning(about="liver-kidney", value=2)
    assert codes.meaning("99X:A") == Meaning(about="quality", value=3)
    assert codes.meaning("99X:B") == Meaning(about="breast", value=1)
    assert codes.fingerprint != load_reader_codes().fingerprint


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("code,stands_for\n", "1: no column 'label'"),
        (HEADER + "10200004,,quality\n", "2: no code; write it as SCT:10200004"),
        (HEADER + "SCT:1,,organs/liver\n", "2: no set 'organs'; there are quality, liver-kidney"),
        (HEADER + "SCT:1,,liver-kidney/lung\n", "2: no 'lung' in liver-kidney; it has liver, kid"),
        (HEADER + "SCT:1,,liver-kidney\n", "2: no '' in liver-kidney"),
        (HEADER + "SCT:1,,quality/5\n", "2: no '5' in quality; it has 0, 1, 2, 3, 4"),
        (
            HEADER + "SCT:1,Lobe, left,quality\n",
            "2: 4 cells, and the header has 3; put a cell that",
        ),
        (HEADER + "SCT:1,,\nSCT:1,,quality\n", "3: stands twice with different meanings"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, text: str, fault: str) -> None:
    site = tmp_path / "codes.csv"
    site.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_reader_codes(site)
    assert fault in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"harvest\.reader_codes cannot be read"):
        load_reader_codes(tmp_path / "none.csv")

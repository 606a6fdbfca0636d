from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.harvest.terms import MOST_CODES, Term
from dicom_node.harvest.words import read_words
from dicom_node.store import Source
from tests.support.frames import pydicom_file, saved, speckle, ultrasound


def _code(value: str, scheme: str = "SCT", **fields: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    for keyword, text in fields.items():
        setattr(item, keyword, text)
    return item


def _terms(path: Path, **fields: Any) -> tuple[Term, ...]:
    return read_words(saved(ultrasound(speckle(64, 64)[None], **fields), path)).terms


def test_every_source_is_read(tmp_path: Path) -> None:
    found = _terms(
        tmp_path / "a.dcm",
        ImageType=["ORIGINAL", "PRIMARY", "SMALL PARTS", "0001"],
        ProcessingFunction="ABD_GENERAL",
        PerformedProcedureStepDescription="S Abd  Com",
        ProcedureCodeSequence=[_code("2501", "99X", CodeMeaning="Echocardiogram")],
        AnatomicRegionSequence=[_code("10200004", CodeMeaning="Liver")],
        ViewCodeSequence=[_code("399214001")],
    )
    assert [(term.source.value, term.words, term.meaning) for term in found] == [
        ("ProcessingFunction", "ABD_GENERAL", ""),
        ("ImageType", "SMALL PARTS", ""),
        ("PerformedProcedureStepDescription", "S ABD COM", ""),
        ("ProcedureCodeSequence", "99X:2501", "ECHOCARDIOGRAM"),
        ("AnatomicRegionSequence", "SCT:10200004", "LIVER"),
        ("ViewCodeSequence", "SCT:399214001", ""),
    ]


@pytest.mark.parametrize("kind", [["ORIGINAL", "PRIMARY"], ["ORIGINAL", "PRIMARY", ""], None])
def test_what_is_absent_says_nothing(tmp_path: Path, kind: list[str] | None) -> None:
    assert _terms(tmp_path / "a.dcm", ImageType=kind, AnatomicRegionSequence=[Dataset()]) == ()


def test_some_codes_are_looked_at_and_each_counts_once(tmp_path: Path) -> None:
    codes = [_code("1"), _code("1"), *(_code(str(n)) for n in range(2, 9))]
    found = _terms(tmp_path / "a.dcm", ProcedureCodeSequence=codes)
    assert [term.words for term in found] == ["SCT:1", "SCT:2", "SCT:3"]
    assert len(found) < MOST_CODES


def test_a_real_file_says_what_its_preset_was() -> None:
    found = read_words(pydicom_file("examples_palette.dcm")).terms
    assert found == (
        Term(source=Source.PROCESSING_FUNCTION, words="OB_GENERAL"),
        Term(source=Source.IMAGE_TYPE, words="OBSTETRICAL"),
    )

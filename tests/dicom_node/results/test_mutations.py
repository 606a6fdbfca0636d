"""Header faults of real archives, each in a header of its own: results come out all the same."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import DataElement, dcmread
from pydicom.dataset import FileDataset

from dicom_node.errors import ResultError
from tests.support.analyses import (
    STILL,
    altered,
    analysis_of,
    pydicom_file,
)
from tests.support.stills import write_each
from tests.support.validators import dciodvfy_errors, without_illegal_uids

Change = Callable[[FileDataset], None]
US = "1.2.840.10008.5.1.4.1.1"
PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def setting(**values: Any) -> Change:
    def change(dataset: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def without(*keywords: str) -> Change:
    def change(dataset: FileDataset) -> None:
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return change


def of_another_vr(keyword: str, value: bytes) -> Change:
    def change(dataset: FileDataset) -> None:
        dataset[keyword] = DataElement(keyword, "OB", value)

    return change


#: An image that names no study, series, instance or class can have no result.
REFUSED: dict[str, Change] = {f"{keyword} absent": without(keyword) for keyword in UIDS} | {
    f"{keyword} empty": setting(**{keyword: ""}) for keyword in UIDS
}
VALUES: dict[str, tuple[Any, ...]] = {
    "PatientSex": ("U", "m", "weiblich"),
    "StudyDate": ("garbage", "2020-01-02", "00000000", "20200101-20200202"),
    "PatientBirthDate": ("1960.01.02", "unknown"),
    "StudyTime": ("12:34:56", "250000", "noon"),
    "SpecificCharacterSet": (
        "",
        "UTF-8",
        "ISO_IR 999",
        ["", "ISO 2022 IR 87"],
        ["ISO 2022 IR 6", "ISO 2022 IR 87"],
        ["ISO_IR 100", "ISO_IR 192"],
        "GB18030",
    ),
    "PatientID": ("0" * 90, ["A", "B"], "é" * 70),
    "PatientName": ("A" * 99, "A^B^C^D^E^F", ["A^B", "C^D"]),
    "AccessionNumber": ("1" * 30, ["1", "2"]),
    "StudyID": ("S" * 40, ["S", "T"]),
    "StudyDescription": ("long " * 30, "liver\nand kidney"),
    "PatientAge": ("abc",),
    "PatientWeight": ("0",),
    "LossyImageCompression": ("maybe",),
    "StudyInstanceUID": ("999.1.2", "1.2.03.4", "1." + "2" * 70),
    "SOPClassUID": (f"{US}.6", f"{US}.3", "1.3.46.670589.2.4.1.1"),
}
MUTATIONS: dict[str, Change] = (
    REFUSED
    | {f"{keyword} absent": without(keyword) for keyword in (*PATIENT_AND_STUDY, "Modality")}
    | {f"{keyword} empty": setting(**{keyword: None}) for keyword in PATIENT_AND_STUDY}
    | {"Modality empty": setting(Modality=None)}
    | {
        f"{keyword} {number}": setting(**{keyword: value})
        for keyword, values in VALUES.items()
        for number, value in enumerate(values, 1)
    }
    | {
        "multi-frame class, one frame": setting(SOPClassUID=f"{US}.3.1", NumberOfFrames=1),
        "multi-frame class, no number of frames": setting(SOPClassUID=f"{US}.3.1"),
        "single-frame class, two frames": setting(NumberOfFrames=2),
        "StudyDate of another VR": of_another_vr("StudyDate", b"\xff\xfe\x00\x01"),
        "PatientWeight of another VR": of_another_vr("PatientWeight", b"heavy "),
    }
)
#: A PACS knows the patient by what is illegal here, so it is repeated.
ILLEGAL_AND_REPEATED = {
    *(f"PatientName {number}" for number in (1, 2)),
    *(f"PatientID {number}" for number in (1, 2, 3)),
    *(f"AccessionNumber {number}" for number in (1, 2)),
}


def mutant(name: str, folder: Path) -> Path:
    return altered(pydicom_file(STILL), folder / "in.dcm", MUTATIONS[name])


def test_there_are_as_many_mutations_as_the_measurements_had() -> None:
    assert len(MUTATIONS) == 73


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_header_gives_results_that_pass_the_gate_or_a_clear_error(
    name: str, tmp_path: Path
) -> None:
    analysis = analysis_of(mutant(name, tmp_path))
    if name in REFUSED:
        with pytest.raises(ResultError, match=f"no {name.partition(' ')[0]}"):
            write_each(analysis, tmp_path)
        return
    written = write_each(analysis, tmp_path)
    assert [result.kind for result in written] == ["seg", "sr"]


@pytest.mark.peers
@pytest.mark.slow
def test_results_of_mutated_headers_have_no_errors_in_dciodvfy(tmp_path: Path) -> None:
    errors = {}
    for number, name in enumerate(MUTATIONS.keys() - REFUSED.keys() - ILLEGAL_AND_REPEATED):
        folder = tmp_path / str(number)
        folder.mkdir()
        analysis = analysis_of(mutant(name, folder))
        for result in write_each(analysis, folder):
            found = without_illegal_uids(dciodvfy_errors(result.path))
            if found:
                errors[name, result.kind] = found
    assert errors == {}


#: by what is written into Specific Character Set: a name and a description that it can say
WORDS = {
    "ISO_IR 100": ("Müller^Jörg", "Leber und Niere, Größe"),
    "ISO_IR 101": ("Wałęsa^Łukasz", "Wątroba"),
    "ISO_IR 144": ("Люксембург^Иван", "Печень и почки"),
    "ISO_IR 127": ("قباني^لنزار", "كبد"),
    "ISO_IR 192": ("Wang^XiaoDong=王^小东", "肝脏 и почки"),
    "GB18030": ("Wang^XiaoDong=王^小东", "肝脏"),
    r"\ISO 2022 IR 87": ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Abdomen 腹部"),
    r"ISO 2022 IR 6\ISO 2022 IR 87": ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Abdomen 腹部"),
    r"\ISO 2022 IR 149": ("Hong^Gildong=洪^吉洞=홍^길동", "Abdomen 복부"),
}


@pytest.mark.parametrize("charset", WORDS)
def test_text_of_every_character_set_reaches_the_results(charset: str, tmp_path: Path) -> None:
    name, description = WORDS[charset]
    change = setting(
        SpecificCharacterSet=charset.split("\\"), PatientName=name, StudyDescription=description
    )
    path = altered(pydicom_file(STILL), tmp_path / "in.dcm", change)
    for result in write_each(analysis_of(path), tmp_path):
        dataset = dcmread(result.path)
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert (str(dataset.PatientName), dataset.StudyDescription) == (name, description)


@pytest.mark.parametrize(
    ("declared", "stored", "kept"),
    [
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1"), "M.?ller.J.?rg"),
        ("", "Müller^Jörg".encode("latin-1"), "M.?ller.J.?rg"),
        ("ISO_IR 100", "Müller^Jörg".encode(), "M..?ller.J..?rg"),
        ("ISO_IR 999", b"Miller^George", "Miller.George"),
        (r"\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3\xff\xff\x1b(B^", "Yamada.Tarou.*"),
        ("ISO_IR 144", "Иван^Иван".encode("iso8859_5"), "Иван.Иван"),
    ],
)
def test_a_name_in_a_broken_character_set_keeps_what_can_be_read(
    declared: str, stored: bytes, kept: str, tmp_path: Path
) -> None:
    placeholder = "Z" * (len(stored) + len(stored) % 2)
    change = setting(SpecificCharacterSet="ISO_IR 6", PatientName=placeholder)
    path = altered(pydicom_file(STILL), tmp_path / "in.dcm", change)
    name = stored.ljust(len(placeholder))
    path.write_bytes(
        path.read_bytes()
        .replace(charset_element("ISO_IR 6"), charset_element(declared))
        .replace(placeholder.encode(), name)
    )
    for result in write_each(analysis_of(path), tmp_path):
        assert re.fullmatch(kept, str(dcmread(result.path).PatientName))


def charset_element(value: str) -> bytes:
    """Return Specific Character Set (0008,0005) in Explicit VR Little Endian."""
    padded = value.encode() + b" " * (len(value) % 2)
    return b"\x08\x00\x05\x00CS" + len(padded).to_bytes(2, "little") + padded

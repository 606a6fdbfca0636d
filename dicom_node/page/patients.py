"""Whose study it is: read from a file when somebody who may asks, and kept nowhere."""

from typing import Final

from pydicom.dataset import FileDataset

from dicom_node.errors import UnreadableError
from dicom_node.header import read_header, text
from dicom_node.records import Instance
from dicom_node.results.source import odd_values_allowed

#: What is shown, by keyword.
_SHOWN: Final = {
    "PatientName": "Name",
    "PatientID": "Patient ID",
    "PatientBirthDate": "Born",
    "PatientSex": "Sex",
    "StudyDate": "Study date",
    "StudyDescription": "Study description",
    "AccessionNumber": "Accession number",
}


def patient_of(instance: Instance) -> dict[str, str]:
    """Return what an instance says of its patient and study, by label.

    Raises
    ------
    UnreadableError
        When the file cannot be read.
    """
    with odd_values_allowed():
        header = read_header(instance.path, ("SpecificCharacterSet", *_SHOWN))
        return {label: _readable(header, keyword) for keyword, label in _SHOWN.items()}


def _readable(header: FileDataset, keyword: str) -> str:
    try:
        return text(header, keyword)
    except UnreadableError:
        return "(not readable)"

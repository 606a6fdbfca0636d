"""The patient and the study of a result: the source's header, cleaned.

Archives hold headers that no library writes again: absent type 2 attributes, dates with dashes,
unknown character sets. A named few attributes are read, each by its rule, and written in Unicode.
What a PACS matches on (Patient ID, Accession Number, UIDs) stays as it is, even where illegal.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import MappingProxyType
from typing import Final

from pydicom.dataset import FileDataset

from dicom_node.errors import ResultError, UnreadableError
from dicom_node.header import read_header, text
from dicom_node.records import ImageFacts, Instance

_DATE: Final = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)")
_TIME: Final = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d)(\.\d{1,6})?)?)?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The image that a result speaks of."""

    instance: Instance
    facts: ImageFacts
    #: Patient and Study modules by keyword: every type 2 attribute, "" where nothing is known
    patient_and_study: Mapping[str, str]
    #: Lossy Image Compression (0028,2110) and its ratio and method, as far as the source tells
    compression: Mapping[str, str]
    #: Instance Number (0020,0013), for people; "" when absent
    number: str
    #: the stills that it stands for, one a frame, when it is no image but a stack of them
    stills: tuple["Source", ...] = ()


def read_source(instance: Instance, facts: ImageFacts) -> Source:
    """Read the header of an image for the objects that will refer to it.

    Parameters
    ----------
    instance : Instance
        As the index knows it.
    facts : ImageFacts
        Of its pixels.

    Raises
    ------
    ResultError
        When it names no study, series, instance or class, or the file is not the instance that the
        index names.
    UnreadableError
        When the file cannot be parsed.
    """
    keywords = (*_UIDS, *_RULES, *_OPTIONAL, *_COMPRESSION, "InstanceNumber")
    with odd_values_allowed():
        header = read_header(instance.path, ("SpecificCharacterSet", *keywords))
        _check_uids(instance, header)
        found = {keyword: _cleaned(header, keyword) for keyword in (*_RULES, *_OPTIONAL)}
        compression = {
            keyword: value
            for keyword, legal in _COMPRESSION.items()
            if legal.fullmatch(value := _readable(header, keyword))
        }
        number = _readable(header, "InstanceNumber")
    return Source(
        instance=instance,
        facts=facts,
        patient_and_study=MappingProxyType(
            {key: value for key, value in found.items() if value or key in _RULES}
        ),
        compression=MappingProxyType(compression),
        number=number if number.isascii() and number.isdigit() else "",
    )


@contextmanager
def odd_values_allowed() -> Iterator[None]:
    """Keep pydicom and highdicom from commenting on values that the source is to blame for.

    They warn through `warnings` about each illegal value that is read, copied or written, and quote
    it: a patient's name would reach standard error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_uids(instance: Instance, header: FileDataset) -> None:
    for keyword, field in _UIDS.items():
        known = getattr(instance, field)
        if not known:
            raise ResultError(f"the source has no {keyword}: a result could not refer to it")
        if _readable(header, keyword) != known:
            raise ResultError(
                f"{keyword} of file {instance.file_id} is not the one in the index; "
                "rebuild the index from the inbox"
            )


def _cleaned(header: FileDataset, keyword: str) -> str:
    rule = _RULES.get(keyword) or _OPTIONAL[keyword]
    return rule(_readable(header, keyword))


def _readable(header: FileDataset, keyword: str) -> str:
    """Return an attribute as text, "" where its bytes make no sense."""
    try:
        return text(header, keyword)
    except UnreadableError:
        return ""


def _verbatim(value: str) -> str:
    return value


def _name(value: str) -> str:
    """Drop what no person name may hold (PS3.5 6.2: no control characters, one value)."""
    return _printable(value).partition("\\")[0].strip()


def _line(value: str, *, limit: int) -> str:
    """Return the first value on one line, cut to the length of its VR."""
    return _printable(value).partition("\\")[0].strip()[:limit].strip()


def _printable(value: str) -> str:
    return "".join(c for c in value if unicodedata.category(c) != "Cc")


def _date(value: str) -> str:
    """Return a DA (PS3.5 6.2), "" for what is no day of the calendar."""
    match = _DATE.fullmatch(value.strip())
    try:
        return f"{date(*map(int, match.groups())):%Y%m%d}".rjust(8, "0") if match else ""
    except ValueError:
        return ""


def _time(value: str) -> str:
    """Return a TM (PS3.5 6.2), "" for what is no time of the day."""
    match = _TIME.fullmatch(value.strip())
    return "".join(part or "" for part in match.groups()) if match else ""


def _sex(value: str) -> str:
    """Return M, F or O (PS3.3 C.7.1.1), "" for anything else."""
    first = value.strip().upper()
    return first if first in {"M", "F", "O"} else ""


_UIDS: Final = {
    "StudyInstanceUID": "study_instance_uid",
    "SeriesInstanceUID": "series_instance_uid",
    "SOPInstanceUID": "sop_instance_uid",
    "SOPClassUID": "sop_class_uid",
}
#: Type 2 attributes: written even when empty.
_RULES: Final[Mapping[str, Callable[[str], str]]] = {
    "PatientName": _name,
    "PatientID": _verbatim,
    "PatientBirthDate": _date,
    "PatientSex": _sex,
    "StudyDate": _date,
    "StudyTime": _time,
    "AccessionNumber": _verbatim,
    "StudyID": partial(_line, limit=16),
    "ReferringPhysicianName": _name,
}
#: Type 3 attributes: written when the source has them.
_OPTIONAL: Final[Mapping[str, Callable[[str], str]]] = {
    "IssuerOfPatientID": _verbatim,
    "StudyDescription": partial(_line, limit=64),
}
_COMPRESSION: Final = {
    "LossyImageCompression": re.compile(r"00|01"),
    "LossyImageCompressionRatio": re.compile(r"\d+(\.\d+)?(\\\d+(\.\d+)?)*"),
    "LossyImageCompressionMethod": re.compile(r"[A-Z0-9_ ]{1,16}(\\[A-Z0-9_ ]{1,16})*"),
}

"""What SEG and SR objects say of themselves: who spoke, with what, when, and whether it was us."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.codes import PROCESSING_ALGORITHM
from dicom_node.errors import UnreadableError
from dicom_node.harvest.reader_codes import code_of
from dicom_node.header import BROKEN_BYTES, read_header, text
from dicom_node.store import Observer, Origin, Software

#: The objects in which readers speak (PS3.4 B.5).
READER_OBJECTS: Final = {
    "1.2.840.10008.5.1.4.1.1.66.4": Origin.SEG,
    "1.2.840.10008.5.1.4.1.1.66.7": Origin.SEG,
    "1.2.840.10008.5.1.4.1.1.88.22": Origin.SR,
    "1.2.840.10008.5.1.4.1.1.88.33": Origin.SR,
    "1.2.840.10008.5.1.4.1.1.88.34": Origin.SR,
}
#: Manufacturer and device observer of this program's own results.
OUR_NAME: Final = "dicom-node"
PERSON_OBSERVER_NAME: Final = "DCM:121008"
DEVICE_OBSERVER_NAME: Final = "DCM:121013"
#: Trees of content items are looked at to this depth and length.
MOST_DEPTH: Final = 12
MOST_ITEMS: Final = 100_000

KEYWORDS: Final = (
    "SpecificCharacterSet",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "StationName",
    "ContentCreatorName",
    "ContentDate",
    "ContentTime",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "TimezoneOffsetFromUTC",
    "ContributingEquipmentSequence",
)
SR_KEYWORDS: Final = (
    "ContentSequence",
    "VerificationFlag",
    "VerifyingObserverSequence",
    "CurrentRequestedProcedureEvidenceSequence",
)
#: Words of the program in Manufacturer, its model, its version or a segment's algorithm.
_SOFTWARE: Final = (
    ("ohif", Software.OHIF),
    ("slicer", Software.SLICER),
    ("qiicr", Software.DCMQI),
    ("dcmqi", Software.DCMQI),
    ("highdicom", Software.HIGHDICOM),
)


@dataclass(frozen=True, kw_only=True)
class Head:
    """Who spoke, with what and when. Private: `who` is a name, or a device."""

    origin: Origin
    who: str
    observer: Observer
    software: Software
    #: as the object says, in UTC where it says that too; None where it does not say
    said_at: datetime | None
    #: whether a node such as this one made it
    is_ours: bool
    #: whether a person stands for it: a SEG's segments tell one by one
    has_person: bool


def read_head(path: Path, origin: Origin, more: Sequence[str] = ()) -> tuple[Head, Dataset]:
    """Read who made an object; returns the header, too, with `more` attributes.

    Raises
    ------
    UnreadableError
        When the bytes are not readable as DICOM.
    """
    header = read_header(path, (*KEYWORDS, *(SR_KEYWORDS if origin is Origin.SR else ()), *more))
    try:
        items = list(content_items(header)) if origin is Origin.SR else []
        names = [*_names_in_report(header, items)] if items else [_name(header)]
        name = next((found for found in names if found), "")
        equipment = _equipment(header)
        return (
            Head(
                origin=origin,
                who=name or f"unnamed {equipment}",
                observer=Observer.NAMED if name else Observer.UNNAMED,
                software=_software(equipment, header),
                said_at=_said_at(header),
                is_ours=_is_ours(header, items),
                has_person=bool(name),
            ),
            header,
        )
    except BROKEN_BYTES as exc:
        raise UnreadableError(f"not readable as DICOM ({type(exc).__name__})") from None


def content_items(parent: Dataset, depth: int = 0) -> Iterator[Dataset]:
    """Yield the content items below one, each before those below it.

    Raises
    ------
    UnreadableError
        When the tree is deeper than any report is.
    """
    if depth > MOST_DEPTH:
        raise UnreadableError(f"a tree of more than {MOST_DEPTH} levels; no report is so deep")
    for item in list(parent.get("ContentSequence") or ())[:MOST_ITEMS]:
        yield item
        yield from content_items(item, depth + 1)


def concept(item: Dataset, keyword: str = "ConceptNameCodeSequence") -> str:
    """Return a code of a content item as one word, "" where there is none."""
    sequence = item.get(keyword)
    if not sequence:
        return ""
    return code_of(text(sequence[0], "CodeValue"), text(sequence[0], "CodingSchemeDesignator"))


def meaning_of(item: Dataset, keyword: str) -> str:
    """Return the words of a code, "" where there are none."""
    sequence = item.get(keyword)
    return text(sequence[0], "CodeMeaning") if sequence else ""


def _names_in_report(header: Dataset, items: Sequence[Dataset]) -> Iterator[str]:
    for item in items:
        if concept(item) == PERSON_OBSERVER_NAME:
            yield name_of_person(text(item, "PersonName"))
    if text(header, "VerificationFlag") == "VERIFIED":
        for observer in header.get("VerifyingObserverSequence") or ():
            yield name_of_person(text(observer, "VerifyingObserverName"))


def _name(header: Dataset) -> str:
    return name_of_person(text(header, "ContentCreatorName"))


def name_of_person(name: str) -> str:
    """Return a name without differences of case, space, empty components and other scripts."""
    return " ".join(name.partition("=")[0].upper().split()).rstrip("^ ")


def _equipment(header: Dataset) -> str:
    keywords = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "StationName")
    return " / ".join(text(header, keyword) for keyword in keywords)


def _software(equipment: str, header: Dataset) -> Software:
    words = f"{equipment} {text(header, 'SoftwareVersions')}"
    for item in header.get("ContributingEquipmentSequence") or ():
        words += f" {text(item, 'Manufacturer')} {text(item, 'ManufacturerModelName')}"
    for item in header.get("SegmentSequence") or ():
        words += f" {text(item, 'SegmentAlgorithmName')}"
    return next((one for part, one in _SOFTWARE if part in words.lower()), Software.OTHER)


def _is_ours(header: Dataset, items: Sequence[Dataset]) -> bool:
    ours = f"{PROCESSING_ALGORITHM.scheme}:{PROCESSING_ALGORITHM.value}"
    return (
        text(header, "Manufacturer").lower() == OUR_NAME
        or any(
            text(item, "Manufacturer").lower() == OUR_NAME
            or (
                concept(item, "PurposeOfReferenceCodeSequence") == ours
                and text(item, "ContributionDescription").startswith("Model sha256=")
            )
            for item in header.get("ContributingEquipmentSequence") or ()
        )
        or any(
            concept(item) == DEVICE_OBSERVER_NAME and text(item, "TextValue").lower() == OUR_NAME
            for item in items
        )
    )


def _said_at(header: Dataset) -> datetime | None:
    for day, time in (
        ("ContentDate", "ContentTime"),
        ("InstanceCreationDate", "InstanceCreationTime"),
    ):
        moment = _moment(text(header, day), text(header, time))
        if moment is not None:
            return _in_utc(moment, text(header, "TimezoneOffsetFromUTC"))
    return None


def _moment(day: str, time: str) -> datetime | None:
    """Return a DA and a TM (PS3.5 6.2), None where the day makes no sense."""
    whole, _, part = time.partition(".")
    digits = f"{day}{whole.ljust(6, '0')[:6]}{part.ljust(6, '0')[:6]}"
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S%f").astimezone()
    except ValueError:
        return None


def _in_utc(moment: datetime, offset: str) -> datetime:
    """Return a moment that was taken for this machine's time in the zone that the object names."""
    sign = {"+": 1, "-": -1}.get(offset[:1])
    if sign is None or len(offset) != 5 or not offset[1:].isdigit():
        return moment
    away = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return moment.replace(tzinfo=timezone(away))

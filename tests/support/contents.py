"""What stands in the objects that the node makes, seen in objects of a still and of a cine."""

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue

from dicom_node.records import ResultKind
from dicom_node.results import Part, write_results, write_still
from dicom_node.results.source import odd_values_allowed
from tests.support.analyses import CINE, INSTALLATION, STILL, drawn_analysis_of, pydicom_file
from tests.support.frames import with_its_region
from tests.support.overlays import overlays_of

_KINDS: Final = ("stills", "cines")
_MADE: Final = "made by the node"
_COPIED: Final = "the image's"
_CODES: Final = ("CS", "AT")
_OF_ITS_OWN: Final = ("DA", "TM", "DT", "OB", "OW", "OB or OW")
#: The same in every object that is looked at here, and no constant.
_VARYING: Final = frozenset({"SeriesDescription", "SoftwareVersions", "DeviceSerialNumber"})


def contents(kind: ResultKind) -> str:
    """Return the table of a kind's attributes: which, when, and whose value."""
    objects = _objects()[kind]
    tags = sorted({element.tag for one in objects.values() for element in one})
    lines = ["| attribute | tag | VR | present | value |", "|---|---|---|---|---|"]
    for tag in tags:
        found = {name: one[tag] for name, one in objects.items() if tag in one}
        first = next(iter(found.values()))
        when = "always" if len(found) == len(objects) else f"of {', '.join(found)}"
        value = _value(list(found.values()), is_everywhere=len(found) == len(objects))
        lines.append(f"| {first.keyword} | {_shown(first)} | {first.VR} | {when} | {value} |")
    return "\n".join((*lines, ""))


def _shown(element: DataElement) -> str:
    return f"({element.tag.group:04X},{element.tag.element:04X})"


def _value(elements: list[DataElement], *, is_everywhere: bool) -> str:
    first = elements[0]
    if first.keyword in _of_the_image():
        return _COPIED
    if first.VR == "SQ":
        items = [item for element in elements for item in element.value]
        keywords = dict.fromkeys(element.keyword for item in items for element in item)
        return f"items: {', '.join(keywords)}" if keywords else "no items"
    values = {_text(element) for element in elements}
    is_constant = first.VR in _CODES or (is_everywhere and first.VR not in _OF_ITS_OWN)
    if len(values) > 1 or not is_constant or first.keyword in _VARYING:
        return _MADE
    return values.pop() or "empty"


def _text(element: DataElement) -> str:
    value = element.value
    if isinstance(value, MultiValue):
        return "\\\\".join(map(str, value))
    return "" if value is None else str(value)


@cache
def _of_the_image() -> frozenset[str]:
    patient = dcmread(pydicom_file(STILL), stop_before_pixels=True)
    known = {element.keyword for element in patient.group_dataset(0x0010)}
    return frozenset(known | _STUDY)


_STUDY: Final = {
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
}


@cache
def _objects() -> dict[ResultKind, dict[str, Dataset]]:
    found: dict[ResultKind, dict[str, Dataset]] = {kind: {} for kind in ResultKind}
    with tempfile.TemporaryDirectory() as folder, odd_values_allowed():
        images = with_its_region(Path(folder) / "still.dcm"), pydicom_file(CINE)
        for name, path in zip(_KINDS, images, strict=True):
            analysis = drawn_analysis_of(path, every_nth=10)
            written = write_results(analysis, Path(folder), installation=INSTALLATION)
            for one in written:
                if one.merging is not None:
                    still = Part(instance=analysis.instance, result=one)
                    write_still(still, Path(folder), installation=INSTALLATION)
            for one in (*written, *overlays_of(analysis, Path(folder))):
                found[one.kind][name] = dcmread(one.path)
    return found


def _of(kind: ResultKind) -> Callable[[], str]:
    return lambda: contents(kind)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "contents-seg": _of(ResultKind.SEG),
    "contents-sr": _of(ResultKind.SR),
    "contents-pr": _of(ResultKind.PR),
    "contents-sc": _of(ResultKind.SC),
}

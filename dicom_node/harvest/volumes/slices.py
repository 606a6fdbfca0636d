"""What is read of the header of one CT or MR slice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_node.errors import UnreadableError
from dicom_node.harvest.counts import Skip
from dicom_node.header import read_header, text
from dicom_node.records import Instance
from dicom_node.sop_classes import ENHANCED, VOLUME_SLICES

#: Attributes that say what a series shows; the labels are made of them.
SAID: Final = (
    *("BodyPartExamined", "SeriesDescription", "ProtocolName", "StudyDescription"),
    *("ScanningSequence", "SequenceVariant", "EchoTime", "RepetitionTime", "InversionTime"),
    *("ContrastBolusAgent", "AnatomicalOrientationType"),
)
#: Numbers of the geometry, with how many there are.
_GEOMETRY: Final = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
WANTED: Final = (
    *(*SAID, *_GEOMETRY),
    *("PatientID", "Rows", "Columns", "ImageType", "NumberOfFrames", "BurnedInAnnotation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "PhotometricInterpretation"),
)
#: Row and column of an orientation are unit vectors at right angles, but for rounding.
_TOLERANCE: Final = 0.01
#: No pixel of CT or MR is smaller or larger, mm.
_PIXEL_MM: Final = (0.01, 50.0)
#: A Rescale Slope is a number of this size, whatever its sign, and an intercept no larger.
_SLOPE: Final = (1e-6, 1e6)
_FURTHEST_MM: Final = 10_000.0
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One slice that has a place in space."""

    instance: Instance
    modality: str
    patient_id: str
    #: text of `SAID`, "" where absent. Private: never logged, never stored as it is
    said: dict[str, str]
    #: unit vectors along a row and along a column (0020,0037), (3,) each
    along_row: Vector
    along_column: Vector
    #: centre of the first pixel, mm
    position: Vector
    #: between rows, and between columns
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    slope: float
    intercept: float
    #: whether small values are bright (MONOCHROME1)
    is_inverted: bool

    @property
    def normal(self) -> Vector:
        """The direction at right angles to the slice."""
        return np.cross(self.along_row, self.along_column)

    def number(self, keyword: str) -> float | None:
        """Return an attribute of `SAID` as a number, None when it is none."""
        return numbers(self.said[keyword], 1)[0] if numbers(self.said[keyword], 1) else None


def read_slice(instance: Instance) -> Slice | Skip:
    """Read the header of an instance of CT or MR, or say why it is part of no volume."""
    if instance.sop_class_uid in ENHANCED:
        return Skip.ENHANCED
    try:
        header = read_header(instance.path, WANTED)
    except UnreadableError:  # it could be read when it was registered
        return Skip.FILES_LOST
    try:
        return slice_of(header, instance)
    except UnreadableError:
        return Skip.UNREADABLE


def slice_of(header: FileDataset, instance: Instance) -> Slice | Skip:
    """Return the slice of a header that was read with `WANTED`; see `read_slice`."""
    found = {keyword: text(header, keyword) for keyword in WANTED}
    fault = _fault(found)
    if fault is not None:
        return fault
    modality = VOLUME_SLICES[instance.sop_class_uid]
    geometry = {name: numbers(found[name], size) for name, size in _GEOMETRY.items()}
    size = numbers(found["Rows"], 1), numbers(found["Columns"], 1)
    if not _is_usable(geometry) or not all(one and one[0] >= 1 for one in size):
        return Skip.NO_GEOMETRY
    slope, intercept = numbers(found["RescaleSlope"], 1), numbers(found["RescaleIntercept"], 1)
    if modality == "CT" and not (slope and intercept and found["RescaleType"] in ("", "HU")):
        return Skip.NO_RESCALE
    is_number = bool(slope or not found["RescaleSlope"])
    is_number &= bool(intercept or not found["RescaleIntercept"])
    if not (is_number and _is_possible(slope, intercept)):
        return Skip.IMPOSSIBLE_RESCALE
    orientation, position = geometry["ImageOrientationPatient"], geometry["ImagePositionPatient"]
    return Slice(
        instance=instance,
        modality=modality,
        patient_id=found["PatientID"],
        said={keyword: found[keyword] for keyword in SAID},
        along_row=_unit(orientation[:3]),
        along_column=_unit(orientation[3:]),
        position=np.array(position),
        spacing_mm=(geometry["PixelSpacing"][0], geometry["PixelSpacing"][1]),
        rows=int(size[0][0]),
        columns=int(size[1][0]),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        is_inverted=modality == "MR" and found["PhotometricInterpretation"] == "MONOCHROME1",
    )


def numbers(value: str, count: int) -> tuple[float, ...]:
    r"""Return the finite numbers of a text that ``\`` separates, () when there are not `count`."""
    try:
        found = tuple(float(part) for part in value.split("\\"))
    except ValueError:
        return ()
    return found if len(found) == count and all(map(math.isfinite, found)) else ()


def _fault(found: dict[str, str]) -> Skip | None:
    """Return why an image is no slice, whatever its geometry."""
    if "LOCALIZER" in found["ImageType"].upper().split("\\"):
        return Skip.LOCALISER
    if found["BurnedInAnnotation"].upper() == "YES":
        return Skip.BURNED_IN
    return Skip.NOT_AN_IMAGE if found["NumberOfFrames"] not in ("", "1") else None


def _is_usable(geometry: dict[str, tuple[float, ...]]) -> bool:
    if not all(geometry.values()):
        return False
    row, column = np.split(np.array(geometry["ImageOrientationPatient"]), 2)
    is_square = (
        abs(np.linalg.norm(row) - 1) < _TOLERANCE
        and abs(np.linalg.norm(column) - 1) < _TOLERANCE
        and abs(row @ column) < _TOLERANCE
    )
    return (
        bool(is_square)
        and all(_PIXEL_MM[0] <= one <= _PIXEL_MM[1] for one in geometry["PixelSpacing"])
        and all(abs(one) <= _FURTHEST_MM for one in geometry["ImagePositionPatient"])
    )


def _is_possible(slope: tuple[float, ...], intercept: tuple[float, ...]) -> bool:
    """Whether values can be rescaled so: absent is possible, 0 and what overflows is not."""
    return all(_SLOPE[0] <= abs(one) <= _SLOPE[1] for one in slope) and all(
        abs(one) <= _SLOPE[1] for one in intercept
    )


def _unit(direction: Sequence[float]) -> Vector:
    vector = np.array(direction)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit

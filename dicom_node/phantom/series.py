"""Phantom CT and MR series as DICOM files: CT Image (PS3.3 A.3) and MR Image (A.4).

What a header says of a series is true of it, so that labels made from headers can be held against
`PhantomSeries`. As with ultrasound: a stand-in, which shows nobody and measures nothing.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import __version__
from dicom_node.errors import PermanentError
from dicom_node.phantom.body import TISSUES, body

CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
_NAMESPACE: Final = uuid.UUID("7f1d3a54-0c5e-5f7b-8f29-3a4d6c2b9e10")
#: Body Part Examined, from z to z (mm), and what is shown.
PARTS: Final[dict[str, tuple[float, float, tuple[str, ...]]]] = {
    "BRAIN": (310, 515, ("Brain", "Head")),
    "NECK": (205, 310, ("Neck",)),
    "CHEST": (-60, 215, ("Lung",)),
    "BREAST": (40, 140, ("Breast",)),
    "LIVER": (-185, -35, ("Liver",)),
    "ABDOMEN": (-330, -30, ("Liver", "Kidney", "Intestine")),
    "PELVIS": (-485, -330, ("Pelvis",)),
    "CHESTABDPELVIS": (-485, 215, ("Lung", "Liver", "Kidney", "Intestine", "Pelvis")),
}
#: Hounsfield units, or brightness, of each of `TISSUES`; the second row with contrast agent.
_LOOKS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "CT": (
        (-1000, -100, 40, 700, 32, 5, -850, 45, 58, 35, 25, 40),
        (-1000, -100, 55, 700, 40, 5, -850, 190, 115, 180, 45, 70),
    ),
    "T1-SE": (
        (0, 900, 450, 100, 620, 150, 30, 300, 560, 430, 350, 380),
        (0, 900, 500, 100, 640, 150, 30, 900, 700, 850, 450, 800),
    ),
    "T2-SE": (
        (0, 700, 300, 80, 380, 1000, 30, 150, 300, 620, 550, 700),
        (0, 700, 310, 80, 390, 1000, 30, 160, 310, 600, 550, 720),
    ),
    "T1-FLAIR": (
        (0, 850, 430, 100, 800, 40, 30, 260, 520, 400, 330, 350),
        (0, 850, 470, 100, 820, 40, 30, 850, 650, 800, 420, 760),
    ),
    "T2-FLAIR": (
        (0, 650, 330, 80, 520, 60, 30, 150, 320, 560, 450, 780),
        (0, 650, 340, 80, 530, 60, 30, 160, 330, 570, 450, 800),
    ),
}
#: Scanning Sequence, Echo Time, Repetition Time, Inversion Time.
_TIMES: Final[dict[str, tuple[list[str], float, float, float | None]]] = {
    "T1-SE": (["SE"], 12, 550, None),
    "T2-SE": (["SE"], 98, 4200, None),
    "T1-FLAIR": (["SE", "IR"], 18, 2100, 860),
    "T2-FLAIR": (["SE", "IR"], 120, 9000, 2500),
}
#: Along rows and along columns.
_ORIENTATIONS: Final = {
    "AX": ((1, 0, 0), (0, 1, 0)),
    "COR": ((1, 0, 0), (0, 0, -1)),
    "SAG": ((0, 1, 0), (0, 0, -1)),
}


@dataclass(frozen=True, kw_only=True)
class SeriesSpec:
    """One series of one phantom patient."""

    seed: int
    patient: int
    #: CT, T1-SE, T2-SE, T1-FLAIR or T2-FLAIR
    sequence: str = "CT"
    plane: str = "AX"
    #: one of `PARTS`
    part: str = "CHEST"
    contrast: bool = False
    slices: int = 24
    rows: int = 48
    columns: int = 48
    #: how far a slice is shifted to the back for each mm to the head
    tilt: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PhantomSeries:
    """The files of a series in order, and the truth about it."""

    spec: SeriesSpec
    paths: tuple[Path, ...]
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    regions: frozenset[str]
    spacing_mm: float
    #: uint8, (S, R, C), of `dicom_node.phantom.body.TISSUES`
    tissues: NDArray[np.uint8]


def write_series(folder: Path, spec: SeriesSpec) -> PhantomSeries:
    """Write one file for each slice into `folder`; equal specs give equal files.

    Raises
    ------
    PermanentError
        When the spec names an unknown sequence, plane or part.
    """
    known = spec.sequence in _LOOKS and spec.plane in _ORIENTATIONS and spec.part in PARTS
    if not known:
        raise PermanentError(f"{spec.sequence} {spec.plane} {spec.part}: not what phantoms show")
    folder.mkdir(parents=True, exist_ok=True)
    origin, steps = _geometry(spec)
    tissues, values = seen(spec)
    paths = []
    for number in range(spec.slices):
        ds = _header(spec, number, origin, steps)
        _add_pixels(ds, values[number])
        paths.append(folder / f"series-{_uid(spec, 'series')[-8:]}-{number + 1:03d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return PhantomSeries(
        spec=spec,
        paths=tuple(paths),
        study_instance_uid=_uid(spec, "study"),
        series_instance_uid=_uid(spec, "series"),
        patient_id=_patient_id(spec),
        regions=frozenset(PARTS[spec.part][2]),
        spacing_mm=float(np.linalg.norm(steps[0] * _along(spec))),
        tissues=tissues,
    )


def seen(spec: SeriesSpec) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what lies in each voxel of a series, of `TISSUES`, and its Hounsfield units or light.

    Both (S, R, C), slices in the order of their files.
    """
    rng = np.random.default_rng((spec.seed, spec.patient))
    origin, steps = _geometry(spec)
    points = (
        origin[:, None, None, None]
        + steps[0][:, None, None, None] * np.arange(spec.slices)[:, None, None]
        + steps[1][:, None, None, None] * np.arange(spec.rows)[:, None]
        + steps[2][:, None, None, None] * np.arange(spec.columns)
    )
    tissues = body(rng).tissue_at(*points)
    values = np.array(_LOOKS[spec.sequence][spec.contrast])[tissues].astype(np.float64)
    return tissues, values + rng.normal(0, 15, values.shape)


def plan(*, seed: int, patients: int, slices: int = 16, size: int = 40) -> list[SeriesSpec]:
    """Plan one series for each of many patients, all kinds of series in turn."""
    rng = np.random.default_rng(seed)
    specs = []
    for patient in range(patients):
        sequence = tuple(_LOOKS)[patient % len(_LOOKS)]
        # a FLAIR is of the head
        parts = ("BRAIN",) if "FLAIR" in sequence else tuple(PARTS)
        specs.append(
            SeriesSpec(
                seed=seed,
                patient=patient,
                sequence=sequence,
                plane=str(rng.choice(("AX", "COR", "SAG"))),
                part=str(rng.choice(parts)),
                contrast=bool(rng.integers(2)),
                slices=slices + int(rng.integers(0, 9)),
                rows=size,
                columns=size,
            )
        )
    return specs


def _geometry(spec: SeriesSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first pixel's place and the steps to the next slice, row and column, mm."""
    low, high, _ = PARTS[spec.part]
    is_head = spec.part == "BRAIN"
    half = np.array([95.0, 120.0]) if is_head else np.array([185.0, 170.0])
    box = np.array([[-half[0], half[0]], [-half[1], half[1]], [low, high]])
    along_row, along_column = (np.array(v, np.float64) for v in _ORIENTATIONS[spec.plane])
    along = _along(spec)
    span = box[:, 1] - box[:, 0]
    slice_step = along * span / (spec.slices - 1)
    slice_step[1] += spec.tilt * slice_step[2]
    row_step = along_column * span / spec.rows
    column_step = along_row * span / spec.columns
    # the corner from which all steps lead into the box
    backwards = (along + along_row + along_column) < 0
    return np.where(backwards, box[:, 1], box[:, 0]), np.stack([slice_step, row_step, column_step])


def _along(spec: SeriesSpec) -> NDArray[np.float64]:
    return np.array({"AX": (0, 0, 1), "COR": (0, 1, 0), "SAG": (1, 0, 0)}[spec.plane], np.float64)


def _header(
    spec: SeriesSpec, number: int, origin: NDArray[np.float64], steps: NDArray[np.float64]
) -> FileDataset:
    is_ct = spec.sequence == "CT"
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.SOPClassUID = CT_IMAGE if is_ct else MR_IMAGE
    ds.SOPInstanceUID = _uid(spec, f"instance {number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = _uid(spec, "study"), _uid(spec, "series")
    ds.FrameOfReferenceUID = _uid(spec, "frame of reference")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if is_ct else "M"]
    ds.Modality = "CT" if is_ct else "MR"
    ds.PatientName, ds.PatientID = f"PHANTOM^NUMBER {spec.patient}", _patient_id(spec)
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20240102", "120000", ""
    ds.ReferringPhysicianName, ds.PositionReferenceIndicator = "", ""
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = str(spec.patient), 1, number + 1
    ds.Manufacturer = "dicom-node"
    ds.SoftwareVersions = f"dicom-node phantom {__version__}"
    ds.ImageComments = "Phantom: made by a random generator, shows no patient"
    ds.BodyPartExamined = spec.part
    ds.SeriesDescription = f"{spec.sequence} {'WITH' if spec.contrast else 'WITHOUT'} CONTRAST"
    if spec.contrast:
        ds.ContrastBolusAgent = "PHANTOM AGENT"
    _add_place(ds, spec, origin + number * steps[0], steps)
    if not is_ct:
        scan, ds.EchoTime, ds.RepetitionTime, inversion = _TIMES[spec.sequence]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = scan, "NONE", ""
        ds.MRAcquisitionType = "2D"
        if inversion is not None:
            ds.InversionTime = inversion
    return ds


def _add_place(
    ds: FileDataset, spec: SeriesSpec, position: NDArray[np.float64], steps: NDArray[np.float64]
) -> None:
    """Add the Image Plane Module (PS3.3 C.7.6.2)."""
    ds.ImageOrientationPatient = [v for axis in _ORIENTATIONS[spec.plane] for v in axis]
    ds.ImagePositionPatient = [f"{one:.6g}" for one in position]
    ds.PixelSpacing = [f"{np.linalg.norm(step):.6g}" for step in steps[1:]]
    # thinner than the way to the next slice: whoever takes it for the spacing is wrong
    ds.SliceThickness = f"{0.7 * float(np.linalg.norm(steps[0])):.6g}"


def _add_pixels(ds: FileDataset, values: NDArray[np.float64]) -> None:
    is_ct = ds.Modality == "CT"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if is_ct:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    stored = np.clip(np.round(values + (1024 if is_ct else 0)), 0, 4095).astype("<u2")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"


def _patient_id(spec: SeriesSpec) -> str:
    return f"PHANTOM-{spec.seed}-{spec.patient:04d}"


def _uid(spec: SeriesSpec, what: str) -> UID:
    """Return a UID derived from a UUID (PS3.5 B.2) that depends on the whole spec."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, f'{spec!r} {what}').int}")


__all__ = ["PARTS", "TISSUES", "PhantomSeries", "SeriesSpec", "plan", "seen", "write_series"]

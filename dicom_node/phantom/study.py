"""Phantom studies as DICOM files: US Image (PS3.3 A.6) and US Multi-frame Image (A.7)."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import __version__
from dicom_node.phantom.field import Field
from dicom_node.phantom.probes import PROBES
from dicom_node.phantom.scene import Scene, SceneSpec, render

US_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.6.1"
US_MULTIFRAME_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.3.1"
FRAME_TIME_MS: Final = 50
CENTIMETRES: Final = 3

#: The stem of every UID, so that the same seed gives the same objects.
_NAMESPACE: Final = uuid.UUID("2a4b7f0e-4d8c-5e0b-9a66-7d6c1f0f9f3a")
_DESCRIPTIONS: Final = {"L12-5": "US THYROID BIOPSY", "9L": "US NECK SOFT TISSUE BIOPSY"}


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """One image of a study: a still, or a cine when it has more than one frame."""

    quality: int
    frames: int = 1


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One study of one phantom patient, one series."""

    seed: int
    #: number of the patient; a Patient ID and name follow from it
    patient: int
    views: tuple[ViewSpec, ...]
    #: model token out of `dicom_node.phantom.probes.PROBES`
    probe: str = "SC6-1"
    #: Study Description (0008,1030)
    description: str = "US BIOPSY LIVER NONFOCAL"


@dataclass(frozen=True, kw_only=True)
class PhantomInstance:
    """One file that was written, and the truth about it."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    patient_id: str
    #: view quality of all its frames, 0 to 4
    quality: int
    #: uint8, (N, R, C)
    frames: NDArray[np.uint8]
    #: uint8, (N, R, C): 0 background, 1 liver, 2 kidney
    label_maps: NDArray[np.uint8]


def write_study(folder: Path, spec: StudySpec) -> tuple[PhantomInstance, ...]:
    """Write one file for each view into `folder`; equal specs give equal files.

    Raises
    ------
    PermanentError
        When the spec names an unknown probe or an impossible quality.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write_view(folder, spec, number) for number in range(1, len(spec.views) + 1))


def cohort(*, seed: int, patients: int, stills: int = 5, cine_frames: int = 0) -> list[StudySpec]:
    """Plan studies of many patients, all qualities and probes; one study in six is linear.

    Parameters
    ----------
    seed : int
        Goes into every study.
    patients : int
        One study each.
    stills : int
        Still images a study; their qualities go round from 0 to 4.
    cine_frames : int
        Frames of the one cine of quality 4 that ends each curvilinear study; 0 for none.
    """
    probes = ("SC6-1", "C5-1", "6C1", "C1-6", "SC6-1", "L12-5")
    return [
        _plan(seed, patient, probes[patient % len(probes)], stills, cine_frames=cine_frames)
        for patient in range(patients)
    ]


def _plan(seed: int, patient: int, probe: str, stills: int, *, cine_frames: int) -> StudySpec:
    linear = probe in _DESCRIPTIONS
    views = [ViewSpec(quality=0 if linear else n % 5) for n in range(stills)]
    if cine_frames and not linear:
        views.append(ViewSpec(quality=4, frames=cine_frames))
    kidney = patient % 2 == 1
    abdominal = "US BIOPSY KIDNEY FOCAL (RIGHT)" if kidney else "US BIOPSY LIVER NONFOCAL"
    return StudySpec(
        seed=seed,
        patient=patient,
        views=tuple(views),
        probe=probe,
        description=_DESCRIPTIONS.get(probe, abdominal),
    )


def _write_view(folder: Path, spec: StudySpec, number: int) -> PhantomInstance:
    view = spec.views[number - 1]
    scene = render(
        SceneSpec(
            quality=view.quality,
            frames=view.frames,
            probe=spec.probe,
            banner=f"{_name(spec)}  ID {_patient_id(spec)}",
        ),
        np.random.default_rng((spec.seed, spec.patient, number)),
    )
    ds = _header(spec, number, cine=view.frames > 1)
    _add_region(ds, scene.field)
    _add_pixels(ds, scene)
    path = folder / f"phantom-{spec.patient:04d}-{number:02d}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return PhantomInstance(
        path=path,
        sop_instance_uid=str(ds.SOPInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        patient_id=str(ds.PatientID),
        quality=scene.quality,
        frames=scene.frames,
        label_maps=scene.label_maps,
    )


def _header(spec: StudySpec, number: int, *, cine: bool) -> FileDataset:
    probe = PROBES[spec.probe]
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.SOPClassUID = US_MULTIFRAME_IMAGE if cine else US_IMAGE
    ds.SOPInstanceUID = _uid(spec, f"instance {number}")
    ds.StudyInstanceUID = _uid(spec, "study")
    ds.SeriesInstanceUID = _uid(spec, "series")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "ABDOMINAL"]
    ds.Modality = "US"
    ds.PatientName, ds.PatientID = _name(spec), _patient_id(spec)
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20240102"
    ds.StudyTime = ds.SeriesTime = "120000"
    ds.ContentTime = f"1200{number % 60:02d}"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = str(spec.patient), "", ""
    ds.StudyDescription = spec.description
    ds.SeriesNumber, ds.InstanceNumber, ds.PatientOrientation = 1, number, ""
    ds.Laterality = ""  # Type 2C: the view shows organs of both kinds
    ds.Manufacturer, ds.ManufacturerModelName = probe.manufacturer, probe.model
    ds.SoftwareVersions = f"dicom-node phantom {__version__}"
    ds.ImageComments = "Phantom: made by a random generator, shows no patient"
    ds.TransducerData = probe.transducer_data.split("\\")
    if probe.transducer_type is not None:
        ds.TransducerType = probe.transducer_type
    return ds


def _add_region(ds: Dataset, field: Field) -> None:
    """Add the US Region Calibration Module (PS3.3 C.8.5.5); its corners are inclusive."""
    region = Dataset()
    region.RegionSpatialFormat = 1  # 2D
    region.RegionDataType = 1  # tissue
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = field.region.left, field.region.top
    region.RegionLocationMaxX1 = field.region.right - 1
    region.RegionLocationMaxY1 = field.region.bottom - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETRES
    region.PhysicalDeltaX = region.PhysicalDeltaY = field.pixel_mm / 10
    ds.SequenceOfUltrasoundRegions = [region]


def _add_pixels(ds: Dataset, scene: Scene) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    frames, ds.Rows, ds.Columns = scene.frames.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.BurnedInAnnotation, ds.LossyImageCompression = "YES", "00"
    ds.UltrasoundColorDataPresent = 0
    if frames > 1:
        ds.NumberOfFrames = frames
        ds.FrameIncrementPointer = Tag("FrameTime")
        ds.FrameTime = FRAME_TIME_MS
    ds.PixelData = scene.frames.tobytes()


def _name(spec: StudySpec) -> str:
    return f"PHANTOM^NUMBER {spec.patient}"


def _patient_id(spec: StudySpec) -> str:
    return f"PHANTOM-{spec.seed}-{spec.patient:04d}"


def _uid(spec: StudySpec, what: str) -> UID:
    """Return a UID derived from a UUID (PS3.5 B.2) that depends on the whole spec."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, f'{spec!r} {what}').int}")

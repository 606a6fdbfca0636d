"""Small synthetic ultrasound: as cheap as can be, yet whole enough for SEG and SR."""

import hashlib
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from dicom_node.phantom.study import US_IMAGE, US_MULTIFRAME_IMAGE

ROWS, COLUMNS = 64, 96
_NAMESPACE: Final = uuid.UUID("0d3f6a52-53f6-5d0e-8d4f-0b7a4a3f1c77")
_LARGEST_STUDY = 4
_CINE_SHARE, _CINE_FRAMES = 0.2, 5


@dataclass(frozen=True, kw_only=True)
class Image:
    """One instance: its data set in Explicit VR Little Endian, as it goes over the line."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    frames: int
    data: bytes = field(repr=False)
    sha256: str


def study(seed: int, number: int) -> list[Image]:
    """Return the images of one study; no two studies of a seed share a byte string."""
    rng = random.Random(f"{seed} {number}")
    return [
        _image(seed, number, place, _CINE_FRAMES if rng.random() < _CINE_SHARE else 1)
        for place in range(1, rng.randint(1, _LARGEST_STUDY) + 1)
    ]


def commitment(images: Sequence[Image], transaction_uid: str) -> bytes:
    """Return the Action Information of a storage commitment request (PS3.4 J.3.2.1.1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID = image.sop_class_uid
        item.ReferencedSOPInstanceUID = image.sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return _encoded(ds)


def transaction_uid(seed: int, number: int) -> str:
    """Return the Transaction UID of the request for a study."""
    return _uid(f"{seed} {number} commitment")


def _image(seed: int, number: int, place: int, frames: int) -> Image:
    ds = _header(seed, number, place, frames)
    rng = np.random.default_rng((seed, number, place))
    # about half of it is bright, so that the model finds something
    ds.PixelData = rng.integers(0, 256, (frames, ROWS, COLUMNS), np.uint8).tobytes()
    data = _encoded(ds)
    return Image(
        sop_instance_uid=str(ds.SOPInstanceUID),
        sop_class_uid=str(ds.SOPClassUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        frames=frames,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _header(seed: int, number: int, place: int, frames: int) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = US_MULTIFRAME_IMAGE if frames > 1 else US_IMAGE
    ds.SOPInstanceUID = _uid(f"{seed} {number} {place}")
    ds.StudyInstanceUID = _uid(f"{seed} {number}")
    ds.SeriesInstanceUID = _uid(f"{seed} {number} series")
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Modality = "US"
    ds.PatientName, ds.PatientID = "TORTURE^NOBODY", f"TORTURE-{seed}-{number}"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = "20240102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "120000"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = str(number % 10**6), "", ""
    ds.StudyDescription = "US BIOPSY LIVER NONFOCAL"
    ds.SeriesNumber, ds.InstanceNumber, ds.PatientOrientation, ds.Laterality = 1, place, "", ""
    ds.Manufacturer, ds.ManufacturerModelName = "TORTURE", "GENERATOR"
    ds.TransducerData = "C5-1"
    ds.SequenceOfUltrasoundRegions = [_region()]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.LossyImageCompression = "00"
    if frames > 1:
        ds.NumberOfFrames, ds.FrameTime = frames, 400
        ds.FrameIncrementPointer = Tag("FrameTime")
    return ds


def _region() -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = COLUMNS - 1, ROWS - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    return region


def _encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


def _uid(what: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, what).int}"

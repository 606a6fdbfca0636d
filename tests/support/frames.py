"""Frames and ultrasound files for tests: made here, or shipped with pydicom."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_node.records import Box, Instance
from dicom_node.store import NewFrame

US_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
US_MULTI_FRAME_IMAGE = "1.2.840.10008.5.1.4.1.1.3.1"
#: The real ultrasound files that pydicom ships, with (frames, whether they name a region). The
#: first two name those of a larger picture: one was cut after 350 rows, one made half as large.
PYDICOM_FILES = {
    "examples_palette.dcm": (1, False),
    "examples_ybr_color.dcm": (30, False),
    "examples_rgb_color.dcm": (1, False),
    "examples_jpeg2k.dcm": (1, False),
    "ExplVR_BigEnd.dcm": (1, False),
}


def pydicom_file(name: str) -> Path:
    """Return the path of a file that pydicom ships."""
    return Path(str(get_testdata_file(name)))


def speckle(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """Return a uint8 picture, (height, width)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def new_frame(seed: int = 0, **fields: Any) -> NewFrame:
    """Return a frame for the store; `fields` override."""
    pixels = fields.pop("pixels", None)
    pixels = speckle(seed=seed) if pixels is None else pixels
    height, width = pixels.shape
    known: dict[str, Any] = {
        "patient": "a" * 32,
        "study": "b" * 32,
        "series": "c" * 32,
        "instance": "d" * 32,
        "frame_number": 1,
        "rows": height + 20,
        "columns": width + 30,
        "crop": Box(left=10, top=5, right=10 + width, bottom=5 + height),
    }
    return NewFrame(pixels=pixels, **(known | fields))


def region_item(box: Box, **fields: Any) -> Dataset:
    """Return an item of Sequence of Ultrasound Regions: 2D tissue, 0.5 mm a pixel."""
    item = Dataset()
    known = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionFlags": 0,
        "RegionLocationMinX0": box.left,
        "RegionLocationMinY0": box.top,
        "RegionLocationMaxX1": box.right - 1,
        "RegionLocationMaxY1": box.bottom - 1,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.05,
        "PhysicalDeltaY": 0.05,
    }
    for keyword, value in (known | fields).items():
        setattr(item, keyword, value)
    return item


def ultrasound(pixels: np.ndarray, **fields: Any) -> FileDataset:
    """Return an ultrasound image of its own, native and little endian.

    Parameters
    ----------
    pixels : ndarray
        Unsigned, (N, R, C) grey or (N, R, C, 3) colour.
    fields
        Attributes by keyword; None leaves one out.
    """
    frames, rows, columns = pixels.shape[:3]
    colour = pixels.ndim == 4
    known = {
        "SOPClassUID": US_MULTI_FRAME_IMAGE if frames > 1 else US_IMAGE,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "Modality": "US",
        "Rows": rows,
        "Columns": columns,
        "NumberOfFrames": frames if frames > 1 else None,
        "SamplesPerPixel": 3 if colour else 1,
        "PlanarConfiguration": 0 if colour else None,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": 0,
    }
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in (known | fields).items():
        if value is not None:
            setattr(data_set, keyword, value)
    meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    data_set["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    return data_set


def saved(data_set: FileDataset, path: Path) -> Path:
    """Write a data set and return its path."""
    data_set.save_as(path, enforce_file_format=True)
    return path


def changed(name: str, path: Path, **fields: Any) -> Path:
    """Write one of pydicom's files with other attributes and return its path."""
    data_set = dcmread(pydicom_file(name))
    for keyword, value in fields.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    return saved(data_set, path)


def with_its_region(path: Path) -> Path:
    """Write pydicom's Philips image with the region cut as its picture was; return its path."""
    item = dcmread(pydicom_file("examples_palette.dcm")).SequenceOfUltrasoundRegions[0]
    item.RegionLocationMaxY1 = 349
    return changed("examples_palette.dcm", path, SequenceOfUltrasoundRegions=[item])


def instance_of(path: Path) -> Instance:
    """Return the record of a file as the index would have it."""
    header = dcmread(path, stop_before_pixels=True)
    return Instance(
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        series_instance_uid=str(header.SeriesInstanceUID),
        study_instance_uid=str(header.StudyInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        file_id=path.stem,
        path=path,
        sha256="0" * 64,
        size_bytes=path.stat().st_size,
        received_at=datetime.now(UTC),
    )

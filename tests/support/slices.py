"""Slices of CT and MR series for tests: headers alone, and files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import generate_uid

from dicom_node.harvest.counts import Skip
from dicom_node.harvest.volumes.slices import Slice, slice_of
from dicom_node.phantom.series import CT_IMAGE, MR_IMAGE
from dicom_node.records import Instance
from dicom_node.store import NewVolume, SeriesLabels
from dicom_node.store.volumes import SHAPE
from tests.support.frames import instance_of

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def header_slice(number: int = 0, **fields: Any) -> Slice | Skip:
    """Return what is read of the header of a CT slice, 5 mm from the next; `fields` override."""
    header = FileDataset("", {}, file_meta=FileMetaDataset())
    known = {
        "SOPClassUID": CT_IMAGE,
        "PatientID": "4711",
        "Rows": 64,
        "Columns": 64,
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": [-100, -100, 5 * number],
        "PixelSpacing": [2, 2],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    for keyword, value in (known | fields).items():
        if value is not None:
            setattr(header, keyword, value)
    header.SOPInstanceUID = header.StudyInstanceUID = header.SeriesInstanceUID = generate_uid()
    return slice_of(header, _instance(header))


def read(number: int = 0, **fields: Any) -> Slice:
    """Return a slice of `header_slice`, which must be one."""
    found = header_slice(number, **fields)
    assert isinstance(found, Slice)
    return found


def magnetic(**fields: Any) -> Slice:
    """Return an MR slice; `fields` override."""
    return read(
        **{"SOPClassUID": MR_IMAGE, "RescaleSlope": None, "RescaleIntercept": None} | fields
    )


def changed(path: Path, **fields: Any) -> Instance:
    """Change attributes of a file, and return its record; None takes one out."""
    header = dcmread(path)
    for keyword, value in fields.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    header.save_as(path, enforce_file_format=True)
    return instance_of(path)


def new_volume(seed: int = 0, **fields: Any) -> NewVolume:
    """Return a volume for the store; `fields` override, those of its labels among them."""
    labels = {
        "sequence": "T1-SE",
        "sequence_rule": "spin echo t1 by times",
        "plane": "AX",
        "plane_rule": "orientation",
        "contrast": True,
        "contrast_rule": "agent",
        "regions": frozenset({"Lung"}),
        "regions_known": frozenset({"Lung", "Brain", "Head"}),
        "regions_rule": "body part",
        "slice_spacing_mm": 5.0,
    }
    known: dict[str, Any] = {
        "voxels": np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8),
        "patient": "a" * 32,
        "study": "b" * 32,
        "series": f"{seed:032x}",
        "made_of": "e" * 32,
        "number_of_slices": 30,
        "spacing_mm": (2.0, 2.0),
    }
    said = {name: fields.pop(name, value) for name, value in labels.items()}
    return NewVolume(**(known | fields), labels=SeriesLabels(**said))


def _instance(header: FileDataset) -> Instance:
    uid = str(header.SOPInstanceUID)
    place = Path(uid)
    return Instance(
        sop_instance_uid=uid,
        sop_class_uid=str(header.SOPClassUID),
        series_instance_uid=uid,
        study_instance_uid=uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_id=uid,
        path=place,
        sha256="0" * 64,
        size_bytes=0,
        received_at=datetime.now(UTC),
    )

"""The weak-label store: what the scanner taught, without anyone's identity.

A folder that can be copied to a training machine: ``catalogue.db`` (SQLite), or the name of a
PostgreSQL server that has the catalogue, and ``frames/``, ``masks/`` and ``volumes/`` (8-bit grey
PNG). Nothing here knows DICOM.
"""

from dicom_node.store.audit import audit
from dicom_node.store.erasure import Erased, Erasure
from dicom_node.store.evidence import Verdict
from dicom_node.store.finding import Finding
from dicom_node.store.places import is_store
from dicom_node.store.readings import (
    QUALITY,
    Observer,
    Origin,
    Provenance,
    Reading,
    Software,
    StoredReading,
)
from dicom_node.store.records import (
    Evidence,
    ImageLabels,
    LabelCount,
    Listing,
    NewFrame,
    Sighting,
    Source,
    StoredFrame,
    StoreInfo,
)
from dicom_node.store.selection import Prepared, Selection
from dicom_node.store.split import SPLITS, split_of
from dicom_node.store.together import Together
from dicom_node.store.volumes import NewVolume, SeriesLabels, StoredVolume, VolumeBook
from dicom_node.store.weak_labels import WeakLabelStore, open_store

__all__ = [
    "QUALITY",
    "SPLITS",
    "Erased",
    "Erasure",
    "Evidence",
    "Finding",
    "ImageLabels",
    "LabelCount",
    "Listing",
    "NewFrame",
    "NewVolume",
    "Observer",
    "Origin",
    "Prepared",
    "Provenance",
    "Reading",
    "Selection",
    "SeriesLabels",
    "Sighting",
    "Software",
    "Source",
    "StoreInfo",
    "StoredFrame",
    "StoredReading",
    "StoredVolume",
    "Together",
    "Verdict",
    "VolumeBook",
    "WeakLabelStore",
    "audit",
    "is_store",
    "open_store",
    "split_of",
]

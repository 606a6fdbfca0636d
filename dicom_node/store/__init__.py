"""The weak-label store: what the scanner taught, without anyone's identity.

A folder that can be copied to a training machine: ``catalogue.db`` (SQLite), ``frames/`` and
``masks/`` (8-bit grey PNG). Nothing here knows DICOM.
"""

from dicom_node.store.audit import Finding, audit
from dicom_node.store.readings import (
    QUALITY,
    Observer,
    Origin,
    Provenance,
    Reading,
    Software,
    StoredReading,
)
from dicom_node.store.records import Listing, NewFrame, StoredFrame, StoreInfo
from dicom_node.store.split import SPLITS, split_of
from dicom_node.store.weak_labels import WeakLabelStore

__all__ = [
    "QUALITY",
    "SPLITS",
    "Finding",
    "Listing",
    "NewFrame",
    "Observer",
    "Origin",
    "Provenance",
    "Reading",
    "Software",
    "StoreInfo",
    "StoredFrame",
    "StoredReading",
    "WeakLabelStore",
    "audit",
    "split_of",
]

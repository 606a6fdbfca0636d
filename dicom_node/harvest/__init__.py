"""From received ultrasound to de-identified frames with weak labels.

Only the pixels of the B-mode region, a model token, a geometry, group bits and keyed pseudonyms go
into the store. The scanner's raw words stay in the node's private ``harvest.db``.
"""

from dicom_node.harvest.counts import HarvestCount, Skip
from dicom_node.harvest.descriptions import DescriptionMap, load_map
from dicom_node.harvest.labels import weak_labels
from dicom_node.harvest.opening import (
    Harvester,
    import_labels,
    open_harvester,
    relabel_store,
)
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey, open_key
from dicom_node.harvest.reader_codes import ReaderCodes, load_reader_codes
from dicom_node.harvest.reader_notes import Fate, ReaderNotes
from dicom_node.harvest.reader_objects import READER_OBJECTS
from dicom_node.harvest.readers import ReaderLabels
from dicom_node.harvest.supervised import ImportCount, RowFault, attach_labels
from dicom_node.harvest.tables import Tables, load_tables

__all__ = [
    "READER_OBJECTS",
    "DescriptionMap",
    "Fate",
    "HarvestCount",
    "Harvester",
    "ImportCount",
    "PrivateNotes",
    "PseudonymKey",
    "ReaderCodes",
    "ReaderLabels",
    "ReaderNotes",
    "RowFault",
    "Skip",
    "Tables",
    "attach_labels",
    "import_labels",
    "load_map",
    "load_reader_codes",
    "load_tables",
    "open_harvester",
    "open_key",
    "relabel_store",
    "weak_labels",
]

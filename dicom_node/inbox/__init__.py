"""The spool: the single source of truth for what was received."""

from dicom_node.inbox.disk import Disk
from dicom_node.inbox.names import began_at, file_ids, new_file_id
from dicom_node.inbox.part import Part
from dicom_node.inbox.sender import sender_of
from dicom_node.inbox.spool import Inbox, received_at

__all__ = [
    "Disk",
    "Inbox",
    "Part",
    "began_at",
    "file_ids",
    "new_file_id",
    "received_at",
    "sender_of",
]

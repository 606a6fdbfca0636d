"""One C-STORE, from its command to its status: the seam between the network and the inbox.

Whoever reads the network builds a `StoreCommand`, begins a `Storing`, writes the fragments of the
data set to it as they come and answers with the status that `finish` returns. Nothing here knows
how the bytes came.
"""

from dataclasses import dataclass

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from dicom_node import __version__
from dicom_node.errors import InboxFullError, PermanentError, RefusedError, TemporaryError
from dicom_node.inbox import Inbox, Part
from dicom_node.receive import statuses
from dicom_node.receive.statuses import Status
from dicom_node.records import checked_uid


@dataclass(frozen=True, kw_only=True)
class StoreCommand:
    """What is known of an instance before its data set (PS3.7 9.3.1.1)."""

    #: Affected SOP Class UID (0000,0002), unchecked
    sop_class_uid: str
    #: Affected SOP Instance UID (0000,1000), unchecked
    sop_instance_uid: str
    #: of the presentation context
    abstract_syntax_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str


class Storing:
    """One instance on its way into the inbox.

    It never raises on what a peer or a disk does: the first fault decides the status, and what
    comes after it is dropped.
    """

    def __init__(self, inbox: Inbox, command: StoreCommand) -> None:
        self.command = command
        self.data_set_bytes = 0
        self._status = statuses.SUCCESS
        self._part: Part | None = None
        try:
            _check(command)
            self._part = inbox.create()
            self._part.write(file_meta(command))
        except (RefusedError, TemporaryError) as exc:
            self._give_up(exc)

    def write(self, fragment: bytes | memoryview) -> None:
        """Take the next bytes of the data set."""
        self.data_set_bytes += len(fragment)
        if self._part is not None:
            try:
                self._part.write(fragment)
            except TemporaryError as exc:
                self._give_up(exc)

    def finish(self) -> Status:
        """Make the instance durable and return what to answer; SUCCESS means it is."""
        if self._part is not None and not self.data_set_bytes:
            self._give_up(_refused(statuses.CANNOT_UNDERSTAND))
        if self._part is not None:
            try:
                self._part.commit()
            except TemporaryError as exc:
                self._give_up(exc)
        return self._status

    def discard(self) -> None:
        """Leave nothing: the association ended in the middle."""
        if self._part is not None:
            self._part.discard()

    def _give_up(self, exc: RefusedError | TemporaryError) -> None:
        self.discard()
        self._part = None
        self._status = _status_of(exc)


def file_meta(command: StoreCommand) -> bytes:
    """Return preamble and File Meta Information (PS3.10 7.1) for a data set as sent."""
    meta = FileMetaDataset()
    values = (
        (0x00020001, "OB", b"\0\1"),
        (0x00020002, "UI", command.sop_class_uid),
        (0x00020003, "UI", command.sop_instance_uid),
        (0x00020010, "UI", command.transfer_syntax_uid),
        (0x00020012, "UI", PYNETDICOM_IMPLEMENTATION_UID),
        (0x00020013, "SH", f"DICOM_NODE {__version__}"[:16]),
        (0x00020016, "AE", command.calling_ae_title),
    )
    for tag, vr, value in values:
        # archives hold UIDs that the standard forbids; they are copied as they are
        meta.add(DataElement(tag, vr, value, validation_mode=IGNORE))
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return b"\0" * 128 + b"DICM" + buffer.getvalue()


def _check(command: StoreCommand) -> None:
    try:
        checked_uid(command.sop_instance_uid, "Affected SOP Instance UID")
    except PermanentError:
        raise _refused(statuses.INVALID_SOP_INSTANCE) from None
    if command.sop_class_uid != command.abstract_syntax_uid:
        raise _refused(statuses.SOP_CLASS_NOT_SUPPORTED)


def _refused(status: Status) -> RefusedError:
    return RefusedError(status.code, status.comment)


def _status_of(exc: RefusedError | TemporaryError) -> Status:
    if isinstance(exc, RefusedError):
        return next(status for status in statuses.STATUSES if status.code == exc.status)
    if isinstance(exc, InboxFullError):
        return statuses.OUT_OF_RESOURCES
    return statuses.PROCESSING_FAILURE

"""One C-STORE, from its command to its status: the seam between the network and the inbox.

Whoever reads the network builds a `StoreCommand`, begins a `Storing`, writes the fragments of the
data set to it as they come and answers with the status that `finish` returns. Nothing here knows
how the bytes came.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from dicom_node import __version__, metrics
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
    comes after it is dropped. When it ends it is counted as received, and as one of stored, refused
    and aborted.
    """

    def __init__(self, inbox: Inbox, command: StoreCommand) -> None:
        self.command = command
        self.data_set_bytes = 0
        self._status = statuses.SUCCESS
        self._is_counted = False
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
                self._part.commit(renaming=partial(self._count_and, self._part.file_id))
            except TemporaryError as exc:
                self._give_up(exc)
            else:
                self._part = None
                metrics.count(metrics.STORED)
        metrics.count(metrics.RECEIVED_BYTES, by=self.data_set_bytes)
        return self._status

    def discard(self) -> None:
        """Leave nothing: the association ended in the middle."""
        if self._drop():
            self._status = statuses.PROCESSING_FAILURE
            self._count()
            metrics.count(metrics.ABORTED)
            metrics.count(metrics.RECEIVED_BYTES, by=self.data_set_bytes)

    def _give_up(self, exc: RefusedError | TemporaryError) -> None:
        self._drop()
        self._status = _status_of(exc)
        self._count()
        metrics.count(metrics.REFUSED, f"{self._status.code:04X}")

    def _count(self) -> None:
        """Count it as received, once, when its end is decided.

        Not at its beginning: a kill in the middle leaves a file, and the supervisor counts that.
        """
        if not self._is_counted:
            self._is_counted = True
            metrics.count(metrics.RECEIVED)

    def _count_and(self, file_id: str, rename: Callable[[], None]) -> None:
        self._is_counted = True
        metrics.page().add_and(metrics.RECEIVED, file_id, rename)

    def _drop(self) -> bool:
        part, self._part = self._part, None
        if part is not None:
            part.discard()
        return part is not None


def file_meta(command: StoreCommand) -> bytes:
    """Return preamble and File Meta Information (PS3.10 7.1) for a data set as sent."""
    values = (
        (0x0001, b"OB", b"\0\1"),
        (0x0002, b"UI", command.sop_class_uid.encode("ascii")),
        (0x0003, b"UI", command.sop_instance_uid.encode("ascii")),
        (0x0010, b"UI", command.transfer_syntax_uid.encode("ascii")),
        (0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID.encode("ascii")),
        (0x0013, b"SH", f"DICOM_NODE {__version__}"[:16].encode("ascii")),
        (0x0016, b"AE", command.calling_ae_title.encode("ascii", "replace")),
    )
    body = b"".join(_element(*value) for value in values)
    return b"\0" * 128 + b"DICM" + _element(0x0000, b"UL", struct.pack("<L", len(body))) + body


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Return an element of group 0002 in Explicit VR Little Endian (PS3.5 7.1.2)."""
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2s2xL", 2, number, vr, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


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

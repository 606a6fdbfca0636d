"""The DIMSE provider of an association whose C-STORE data sets go straight to the inbox.

pynetdicom's own provider collects a data set in memory, or in a temporary file that an abort
leaves behind. This one hands every fragment to a `Storing` as it comes and answers when it is
durable; all other messages take pynetdicom's way.
"""

import threading
import time

from pydicom.config import IGNORE
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from dicom_node import log
from dicom_node.errors import PermanentError
from dicom_node.inbox import Inbox
from dicom_node.receive import statuses
from dicom_node.receive.statuses import Status
from dicom_node.receive.storing import StoreCommand, Storing

#: A command set, or the data set of a message that the node does not expect, may be so long.
_MESSAGE_LIMIT_BYTES = 1 << 16


class StreamingDimse(DIMSEServiceProvider):
    """Streams C-STORE requests into an inbox.

    Parameters
    ----------
    assoc : Association
    inbox : Inbox
    """

    def __init__(self, assoc: Association, inbox: Inbox) -> None:
        super().__init__(assoc)
        self._inbox = inbox
        self._storing: Storing | None = None
        self._message_id = 0
        self._message_bytes = 0
        self._closed = threading.Event()
        self._last_activity = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the peer sent something of a message; 0 in the middle of a C-STORE."""
        return 0.0 if self._storing else time.monotonic() - self._last_activity

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive; whatever is in it, this thread survives."""
        self._last_activity = time.monotonic()
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._receive(context_id, fragment)
        except Exception as exc:  # noqa: BLE001 - the DIMSE handler: a peer's bytes end no thread
            log.get("receive").warning("message_not_understood", cause=type(exc).__name__)
            self.discard()
            self.dul.event_queue.put("Evt19")  # PS3.8 9.2.3: invalid PDU, abort

    def discard(self) -> None:
        """Leave nothing of a half-received instance; the association is over."""
        self._closed.set()
        storing, self._storing = self._storing, None
        if storing is not None:
            storing.discard()

    def _receive(self, context_id: int, fragment: bytes) -> None:
        # Message Control Header (PS3.8 E.2): bit 0 command, bit 1 last fragment
        is_command, is_last = fragment[0] & 1, fragment[0] & 2
        if self._storing is None:
            self._receive_message(context_id, fragment)
        elif is_command:
            raise PermanentError("a command inside a data set")
        else:
            self._storing.write(memoryview(fragment)[1:])
            if is_last:
                self._answer(context_id, self._storing)

    def _receive_message(self, context_id: int, fragment: bytes) -> None:
        self._message_bytes = len(fragment) + (self._message_bytes if self.message else 0)
        if self._message_bytes > _MESSAGE_LIMIT_BYTES:
            raise PermanentError("a message longer than any that the node expects")
        part = P_DATA()
        part.presentation_data_value_list.append((context_id, fragment))
        super().receive_primitive(part)
        # the class changes once the command set is complete; a message still here has a data set
        if isinstance(self.message, C_STORE_RQ) and not self._closed.is_set():
            command_set, self.message = self.message.command_set, None
            self._message_id = int(command_set.MessageID)
            self._storing = Storing(self._inbox, self._command(context_id, command_set))

    def _command(self, context_id: int, command_set: Dataset) -> StoreCommand:
        context = self.assoc._accepted_cx[context_id]
        return StoreCommand(
            sop_class_uid=_raw_text(command_set, "AffectedSOPClassUID"),
            sop_instance_uid=_raw_text(command_set, "AffectedSOPInstanceUID"),
            abstract_syntax_uid=str(context.abstract_syntax),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            calling_ae_title=self.assoc.requestor.ae_title,
        )

    def _answer(self, context_id: int, storing: Storing) -> None:
        status = storing.finish()
        self._storing = None
        _report(storing, status)
        response = C_STORE()
        response.MessageIDBeingRespondedTo = self._message_id
        response.Status = status.code
        # optional in a response: pynetdicom encodes no UID that breaks PS3.5 9.1
        if UID(storing.command.sop_class_uid, IGNORE).is_valid:
            response.AffectedSOPClassUID = storing.command.sop_class_uid
        if UID(storing.command.sop_instance_uid, IGNORE).is_valid:
            response.AffectedSOPInstanceUID = storing.command.sop_instance_uid
        if status.comment:
            response.ErrorComment = status.comment  # type: ignore[assignment]  # a str (0000,0902)
        self.send_msg(response, context_id)


def _report(storing: Storing, status: Status) -> None:
    is_success = status is statuses.SUCCESS
    write = log.get("receive").debug if is_success else log.get("receive").warning
    write(
        "stored" if is_success else "refused",
        ae_title=storing.command.calling_ae_title,
        bytes=storing.data_set_bytes,
        reason=status.comment,
        status=f"0x{status.code:04X}",
    )


def _raw_text(command_set: Dataset, keyword: str) -> str:
    """Return a value as sent; parsing it would warn of, and quote, what is no UID."""
    if keyword not in command_set:
        return ""
    value = command_set.get_item(keyword).value
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value)).rstrip("\0 ")

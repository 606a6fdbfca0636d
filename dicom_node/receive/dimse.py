"""The DIMSE provider of an association whose C-STORE data sets go straight to the inbox.

pynetdicom's own provider collects a data set in memory, or in a temporary file that an abort
leaves behind. This one hands every fragment to a `Storing` as it comes and answers when it is
durable; all other messages take pynetdicom's way, whole.
"""

import struct
import time
from functools import lru_cache
from typing import Final, cast

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA

from dicom_node import log
from dicom_node.errors import PermanentError, TemporaryError, UnreadableError
from dicom_node.inbox import Inbox
from dicom_node.receive import command_set, statuses
from dicom_node.receive.budget import Share
from dicom_node.receive.command_set import CommandSet
from dicom_node.receive.statuses import Status
from dicom_node.receive.storing import StoreCommand, Storing
from dicom_node.receive.upper_layer import UpperLayer
from dicom_node.records import checked_uid

#: A command set may be so long.
_COMMAND_LIMIT_BYTES: Final = 1 << 16
#: So may the data set of a message that is no C-STORE: a commitment of 20,000 instances.
_DATA_SET_LIMIT_BYTES: Final = 4 << 20
#: Length of what follows, context, Message Control Header (PS3.8 9.3.5, E.2).
_PDV: Final = struct.Struct(">LBB")
_IS_COMMAND, _IS_LAST = 1, 2


class StreamingDimse(DIMSEServiceProvider):
    """Streams C-STORE requests into an inbox.

    Parameters
    ----------
    assoc : Association
    inbox : Inbox
    share : Share
        Holds the data sets that are not stored, until they are served.
    """

    def __init__(self, assoc: Association, inbox: Inbox, share: Share) -> None:
        super().__init__(assoc)
        self._inbox, self._share = inbox, share
        self._collected = bytearray()
        #: of a message that is no C-STORE, while its data set comes
        self._command: bytes | None = None
        self._storing: Storing | None = None
        self._context_id = self._message_id = 0
        self._last_activity = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the peer sent something of a message; 0 in the middle of a C-STORE."""
        return 0.0 if self._storing else time.monotonic() - self._last_activity

    def receive(self, value: memoryview) -> None:
        """Take the value of a P-DATA-TF PDU.

        Raises
        ------
        PermanentError
            When it breaks the protocol.
        TemporaryError
            When the other peers leave no memory for it.
        """
        self._last_activity = time.monotonic()
        at = 0
        while at < len(value):
            if at + _PDV.size > len(value):
                raise UnreadableError("a PDV ends in its header")
            length, context_id, control = _PDV.unpack_from(value, at)
            end = at + 4 + length
            if length < 2 or end > len(value):
                raise UnreadableError("a PDV has another length than its PDU")
            self._receive(context_id, control, value[at + _PDV.size : end])
            at = end

    def served(self) -> None:
        """Give back the memory of messages that were answered."""
        self._share.hold(len(self._collected))

    def discard(self) -> None:
        """Leave nothing of a half-received message; the association is over."""
        storing, self._storing = self._storing, None
        if storing is not None:
            storing.discard()
        self._collected.clear()
        self.served()

    def _receive(self, context_id: int, control: int, fragment: memoryview) -> None:
        is_last = bool(control & _IS_LAST)
        if self._storing is None:
            self._collect(context_id, control, fragment)
        elif control & _IS_COMMAND or context_id != self._context_id:
            raise UnreadableError("a data set does not go on as it began")
        else:
            self._storing.write(fragment)
            if is_last:
                self._answer(context_id, self._storing)

    def _collect(self, context_id: int, control: int, fragment: memoryview) -> None:
        """Take a fragment of a command, or of a data set that is not stored."""
        is_command = bool(control & _IS_COMMAND)
        if is_command != (self._command is None):
            raise UnreadableError("a command where a data set is due, or the other way round")
        if is_command and not self._collected:
            self._begin(context_id)
        elif context_id != self._context_id:
            raise UnreadableError("a message does not go on as it began")
        self._collected += fragment
        limit_bytes = _COMMAND_LIMIT_BYTES if is_command else _DATA_SET_LIMIT_BYTES
        if len(self._collected) > limit_bytes:
            raise PermanentError("a message longer than any that the node expects")
        if not is_command and not self._share.hold(len(self._collected)):
            raise TemporaryError("the messages of all peers together take too much memory")
        if control & _IS_LAST:
            whole = bytes(self._collected)
            self._collected.clear()
            if is_command:
                self._take_command(context_id, whole)
            else:
                self._hand_over(context_id, cast(bytes, self._command), whole)

    def _begin(self, context_id: int) -> None:
        if context_id not in self.assoc._accepted_cx:
            raise UnreadableError("a message in a presentation context that was not accepted")
        self._context_id = context_id

    def _take_command(self, context_id: int, data: bytes) -> None:
        command = command_set.parse(data)
        kind = command_set.number(command, command_set.COMMAND_FIELD)
        follows = command_set.number(command, command_set.COMMAND_DATA_SET_TYPE)
        has_data_set = follows != command_set.NO_DATA_SET
        if kind == command_set.C_STORE_RQ:
            self._message_id = command_set.number(command, command_set.MESSAGE_ID)
            self._storing = Storing(self._inbox, self._store_command(context_id, command))
            if not has_data_set:
                self._answer(context_id, self._storing)
        elif has_data_set:
            self._command = data
        else:
            self._hand_over(context_id, data, None)

    def _store_command(self, context_id: int, command: CommandSet) -> StoreCommand:
        context = self.assoc._accepted_cx[context_id]
        return StoreCommand(
            sop_class_uid=command_set.text(command, command_set.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=command_set.text(command, command_set.AFFECTED_SOP_INSTANCE_UID),
            abstract_syntax_uid=str(context.abstract_syntax),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            calling_ae_title=self.assoc.requestor.ae_title,
        )

    def _hand_over(self, context_id: int, command: bytes, data_set: bytes | None) -> None:
        """Give a whole message to pynetdicom, which serves it."""
        self._command = None
        message = P_DATA()
        fragments = (
            [b"\x03" + command] if data_set is None else [b"\x03" + command, b"\x02" + data_set]
        )
        message.presentation_data_value_list.extend((context_id, part) for part in fragments)
        kind = command_set.number(command_set.parse(command), command_set.COMMAND_FIELD)
        if kind == command_set.N_EVENT_REPORT_RQ:
            self._queue_report(context_id, message)
            return
        self.receive_primitive(message)
        if self.message is not None:  # it could not be read, and would be gone on with
            self.dul.event_queue.queue.clear()
            raise UnreadableError("a message that cannot be read")

    def _queue_report(self, context_id: int, message: P_DATA) -> None:
        """Let the association's own thread serve it; pynetdicom would start one for each."""
        whole = DIMSEMessage()
        if not whole.decode_msg(message, self.assoc):
            raise UnreadableError("a message that cannot be read")
        report = cast(N_EVENT_REPORT, whole.message_to_primitive())
        self.msg_queue.put((context_id, report))

    def _answer(self, context_id: int, storing: Storing) -> None:
        status = storing.finish()
        self._storing = None
        if status is not statuses.SUCCESS:
            _report_refusal(storing, status)
        command = command_set.encode(_response(self._message_id, storing.command, status))
        longest = self.maximum_pdu_size
        for pdu in command_set.pdus(command, context_id=context_id, longest=longest):
            cast(UpperLayer, self.dul).send_bytes(pdu)


def _response(message_id: int, command: StoreCommand, status: Status) -> dict[int, int | str]:
    """Return the elements of a C-STORE-RSP (PS3.7 9.3.1.2)."""
    values: dict[int, int | str] = {
        command_set.COMMAND_FIELD: command_set.C_STORE_RSP,
        command_set.MESSAGE_ID_BEING_RESPONDED_TO: message_id,
        command_set.COMMAND_DATA_SET_TYPE: command_set.NO_DATA_SET,
        command_set.STATUS: status.code,
    }
    # optional in a response: what is no UID is not sent back
    uids = {
        command_set.AFFECTED_SOP_CLASS_UID: command.sop_class_uid,
        command_set.AFFECTED_SOP_INSTANCE_UID: command.sop_instance_uid,
    }
    values |= {element: uid for element, uid in uids.items() if _is_uid(uid)}
    if status.comment:
        values[command_set.ERROR_COMMENT] = status.comment
    return values


@lru_cache(maxsize=256)  # the class of a still is that of the one before
def _is_uid(value: str) -> bool:
    try:
        return bool(checked_uid(value, "UID"))
    except PermanentError:
        return False


def _report_refusal(storing: Storing, status: Status) -> None:
    log.get("receive").warning(
        "refused",
        ae_title=storing.command.calling_ae_title,
        bytes=storing.data_set_bytes,
        reason=status.comment,
        status=f"0x{status.code:04X}",
    )

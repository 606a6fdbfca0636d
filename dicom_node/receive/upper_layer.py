"""pynetdicom's upper layer (PS3.8 9.2) without its thread and its polling: whoever calls, waits.

State machine, PDUs and negotiation stay pynetdicom's. What it does in a loop every millisecond
happens here in the association's own thread: a PDU is read when one is waited for, and a primitive
is sent when it is handed over. An association that says nothing costs nothing.
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.transport import AssociationSocket

from dicom_node.receive.reader import PduReader

#: PDU types (PS3.8 9.3.2, 9.3.5)
A_ASSOCIATE_RQ: Final = 0x01
P_DATA_TF: Final = 0x04
_PDU_TYPES: Final = range(0x01, 0x08)
#: States (PS3.8 9.2.1)
_DATA_TRANSFER, _AWAITING_CLOSE = "Sta6", "Sta13"
#: A step of the state machine takes less, unless it waits for the peer.
_PATIENCE_S: Final = 0.05
#: Events (PS3.8 9.2.2)
_CONNECTION_CLOSED, _ARTIM_EXPIRED, _INVALID_PDU = "Evt17", "Evt18", "Evt19"


class UpperLayer(DULServiceProvider):
    """The upper layer of an association that was asked for by a peer.

    Parameters
    ----------
    assoc : Association
    reader : PduReader
        Of the connection that `assoc` has.
    """

    def __init__(self, assoc: Association, reader: PduReader) -> None:
        super().__init__(assoc)
        self._reader = reader
        # a stop aborts from another thread
        self._acting = threading.RLock()

    def start(self) -> None:
        """Take note of the connection (Evt5); no thread is needed."""
        self._act()

    def is_alive(self) -> bool:
        """Tell pynetdicom that there is no thread to end."""
        return False

    @property
    def is_transferring(self) -> bool:
        """Whether P-DATA may come (Sta6)."""
        return self.state_machine.current_state == _DATA_TRANSFER

    def negotiated(self) -> None:
        """Hold the peer to what was negotiated."""
        self._reader.negotiated()

    def close(self) -> None:
        """Let go of what was read."""
        self._reader.close()

    def read(self) -> tuple[int, memoryview]:
        """Wait for a PDU and return it; see `PduReader.read`."""
        return self._reader.read()

    def take(self, kind: int, value: memoryview) -> None:
        """Act on a PDU as the state machine says.

        Raises
        ------
        Exception
            Of any kind, from pynetdicom's decoder, on what a peer may send.
        """
        if kind not in _PDU_TYPES:
            self._act(_INVALID_PDU)
            return
        data = struct.pack(">BxL", kind, len(value)) + bytes(value)
        pdu, event = self._decode_pdu(bytearray(data))
        self._recv_pdu.put(pdu)
        self._act(event)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep the association's own thread from acting; yields whether that could be had.

        It cannot where that thread waits for a peer to take what is sent.
        """
        is_held = self._acting.acquire(timeout=_PATIENCE_S)
        try:
            yield is_held
        finally:
            if is_held:
                self._acting.release()

    def lose_connection(self) -> None:
        """Act on a connection that is closed or broken."""
        self._act(_CONNECTION_CLOSED)

    def refuse_pdu(self) -> None:
        """Act on a PDU that makes no sense: abort (PS3.8 9.2.3, AA-8)."""
        self._act(_INVALID_PDU)

    def give_up(self) -> None:
        """Act on a peer that is silent where no association stands: close."""
        self._act(_ARTIM_EXPIRED)

    def wait_for_close(self) -> None:
        """After a release, a rejection or an abort, let the peer close; what it says is over."""
        while self.state_machine.current_state == _AWAITING_CLOSE:
            try:
                self.read()
            except TimeoutError:
                self.give_up()
            except OSError:
                self.lose_connection()
            if self.artim_timer.expired:
                self.give_up()

    def send_pdu(self, primitive: object) -> None:
        """Send a primitive now; it is dropped where the state allows none."""
        with self._acting:
            super().send_pdu(primitive)  # type: ignore[arg-type]  # a private union of pynetdicom
            self._process_recv_primitive()
            self._act()
            self.to_provider_queue.queue.clear()

    def send_bytes(self, data: bytes) -> None:
        """Send an encoded P-DATA-TF PDU now."""
        with self._acting:
            if self.is_transferring:
                cast(AssociationSocket, self.socket).send(data)
                self._act()

    def _act(self, *events: str) -> None:
        """Run the state machine on what happened, and on what follows from it."""
        with self._acting:
            for event in events:
                self.event_queue.put(event)
            while not self.event_queue.empty():
                event = self.event_queue.get_nowait()
                if (event, self.state_machine.current_state) in TRANSITION_TABLE:
                    self.state_machine.do_action(event)
                # else the connection ended meanwhile, or the user came too late

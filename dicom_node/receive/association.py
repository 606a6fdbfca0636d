"""One association, in one thread: negotiate, take what comes, answer, end.

pynetdicom negotiates (PS3.8 7.1) and serves every request but C-STORE, whose data sets go from the
connection into the inbox without a stop.
"""

import socket
import ssl
from collections.abc import Callable
from typing import cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node import log, metrics
from dicom_node.inbox import Inbox
from dicom_node.receive.budget import Budget, Share
from dicom_node.receive.dimse import StreamingDimse
from dicom_node.receive.reader import PduReader
from dicom_node.receive.request import check_request
from dicom_node.receive.upper_layer import A_ASSOCIATE_RQ, P_DATA_TF, UpperLayer


class NodeAssociation(Association):
    """An association that a peer asks for.

    Parameters
    ----------
    ae : ApplicationEntity
    connection : socket.socket
        Plain, or TLS before its handshake; with a time-out.
    inbox : Inbox
        Where instances go.
    budget : Budget
        Of the process.
    on_end : callable
        Told when the connection is closed.
    """

    dul: UpperLayer
    dimse: StreamingDimse

    def __init__(
        self,
        ae: ApplicationEntity,
        connection: socket.socket,
        inbox: Inbox,
        *,
        budget: Budget,
        on_end: "Callable[[NodeAssociation], None]",
    ) -> None:
        super().__init__(ae, "acceptor")
        self._on_end, self._raw = on_end, connection
        share = Share(budget)
        self.dul = UpperLayer(self, PduReader(connection, share))
        self.dul.socket = AssociationSocket(self, client_socket=connection)
        self.dimse = StreamingDimse(self, inbox, share)
        # the timers are the upper layer's
        self.acse_timeout, self.network_timeout = ae.acse_timeout, ae.network_timeout

    @property
    def host(self) -> str:
        """Address of the peer."""
        return cast(AddressInformation, self.requestor.address_info).address

    @property
    def idle_s(self) -> float:
        """Seconds since the peer sent something of a message; 0 in the middle of a C-STORE."""
        return self.dimse.idle_s

    def run_reactor(self) -> None:
        """Talk to the peer until the connection is closed; what a thread of it runs."""
        try:
            self._talk()
            self.dul.wait_for_close()
        except TimeoutError:
            self._log("peer_silent")
            self._give_up()
        except OSError as exc:
            self._log("connection_lost", cause=type(exc).__name__)
            self.dul.lose_connection()
        except Exception as exc:  # noqa: BLE001 - the DIMSE handler: a peer's bytes end no thread
            self._log("message_not_understood", cause=type(exc).__name__, where=log.place_of(exc))
            self.dul.refuse_pdu()
            self.dul.wait_for_close()
        finally:
            self.is_established = False
            self._connection.close()
            self.dul.close()
            self._raw.close()  # pynetdicom leaves a socket open that it cannot shut down
            self._on_end(self)

    def end(self) -> None:
        """Abort, from another thread; a peer that takes no bytes is hung up on."""
        # OpenSSL allows no writing beside a reading: TLS ends without a word
        if not isinstance(self._raw, ssl.SSLSocket):
            with self.dul.held() as is_held:
                if is_held:
                    self._give_up()
        self._connection._shutdown_socket()  # wakes a reader that waits for the rest of a PDU

    def _talk(self) -> None:
        if isinstance(self._raw, ssl.SSLSocket):
            self._raw.do_handshake()  # its time-out bounds the whole of it
        self.dul.start()
        kind, value = self.dul.read()
        if kind == A_ASSOCIATE_RQ:
            check_request(value)
        self.dul.take(kind, value)
        request: object = self.dul.receive_pdu()
        if not isinstance(request, A_ASSOCIATE):
            return
        self.requestor.primitive = request
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if not (self.is_aborted or self.is_rejected):
            self.acse.negotiate_association()
            self.dul.negotiated()
            self._note_begin()
        try:
            while self.is_established:
                self._serve()
        finally:
            self.dimse.discard()  # a peer may take its time to close

    def _serve(self) -> None:
        kind, value = self.dul.read()
        if kind == P_DATA_TF and self.dul.is_transferring:
            self.dimse.receive(value)
        else:
            self.dul.take(kind, value)
            self._note_end()
        while self.is_established and not self.dimse.msg_queue.empty():
            context_id, message = self.dimse.msg_queue.get_nowait()
            if message is not None and context_id is not None:
                self._serve_request(message, context_id)
                self.dimse.served()

    def _note_begin(self) -> None:
        if self.is_established:
            metrics.count(metrics.ASSOCIATIONS)
            ae_title = self.requestor.ae_title
            log.get("receive").info("association_accepted", ae_title=ae_title, host=self.host)

    def _note_end(self) -> None:
        """Answer a release, note an abort (PS3.8 7.2, 7.3)."""
        if self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
        elif self.acse.is_aborted():
            self.is_aborted = True
            self._log("aborted_by_peer")
        self.is_established = not (self.is_released or self.is_aborted)

    def _give_up(self) -> None:
        if self.dul.is_transferring:
            self.acse.send_abort(0x00)
            self.is_aborted = True
        else:
            self.dul.give_up()

    @property
    def _connection(self) -> AssociationSocket:
        return cast(AssociationSocket, self.dul.socket)

    def _log(self, event: str, **values: str) -> None:
        logger = log.get("receive")
        # a port scan or a load balancer's probe is no news
        write = logger.warning if self.is_established else logger.info
        write(event, ae_title=self.requestor.ae_title, host=self.host, **values)

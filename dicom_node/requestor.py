"""Associations that the node asks for (PS3.8 7.1), the same for every service it uses.

pynetdicom's requestor has a thread of its own that looks for messages beside the one that waits for
an answer. Where the system holds that thread up between two of its steps, it takes the answer away:
the caller waits for the whole time-out and the association is aborted. Here it looks for none.
"""

import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, Protocol

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import uid_to_service_class


class Peer(Protocol):
    """Whom to ask; a `Destination` and a `CountAt` of the configuration are such."""

    @property
    def ae_title(self) -> str:
        """Called AE title."""

    @property
    def host(self) -> str:
        """Name or address."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def timeout_s(self) -> float:
        """Longest silence, and longest wait for an answer."""


def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae_title: str,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> Association:
    """Ask for an association; whether it came to be, its ``is_established`` tells.

    Parameters
    ----------
    peer : Peer
    contexts : sequence of PresentationContext
        What is proposed, 128 at most.
    calling_ae_title : str
        Our own AE title.
    roles : sequence of SCP_SCU_RoleSelectionNegotiation
        SCP/SCU Role Selection (PS3.7 D.3.3.4).
    tls : tuple of ssl.SSLContext and str
        With the name that the peer's certificate must bear; None = in the clear.
    """
    ae = AE(ae_title=calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = peer.timeout_s
    ae.network_timeout = ae.connection_timeout = peer.timeout_s
    return ae.associate(
        peer.host,
        peer.port,
        contexts=list(contexts),
        ae_title=peer.ae_title,
        ext_neg=list(roles),
        tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, _prepare)],
    )


class _AnswersOnly(DIMSEServiceProvider):
    """Gives a message to whoever waits for one, and none to the thread that only looks.

    An N-EVENT-REPORT that comes meanwhile goes to its handler, in the thread of who waits.
    """

    def keep(self, message: Any, context_id: int) -> None:
        """Take a request in the place of pynetdicom, which serves it in a thread of its own."""
        self.msg_queue.put((context_id, message))

    def get_msg(self, block: bool = False) -> Any:  # a private union of pynetdicom
        """Return (context ID, message), or two times None."""
        if not block:
            return _NOTHING
        while True:
            context_id, message = super().get_msg(block=True)
            if not isinstance(message, N_EVENT_REPORT) or not message.is_valid_request:
                return context_id, message
            context = self.assoc._accepted_cx.get(context_id or 0)
            if context is None or message.AffectedSOPClassUID != context.abstract_syntax:
                return context_id, message
            # an SCP may report before it answers, and after (PS3.4 J.3.3.1.2)
            uid_to_service_class(str(context.abstract_syntax))(self.assoc).SCP(message, context)


_NOTHING: Final = (None, None)


def _prepare(event: evt.Event) -> None:
    assoc: Any = event.assoc
    assoc.dimse = _AnswersOnly(assoc)
    assoc._serve_request = assoc.dimse.keep
    # let no message wait: Nagle and the peer's delayed ACK cost 40 ms for every small one
    assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

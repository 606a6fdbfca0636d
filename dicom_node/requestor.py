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
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext


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
    """Gives a message to whoever waits for one, and none to the thread that only looks."""

    def get_msg(self, block: bool = False) -> Any:  # a private union of pynetdicom
        """Return (context ID, message), or two times None."""
        return super().get_msg(block=True) if block else _NOTHING


_NOTHING: Final = (None, None)


def _prepare(event: evt.Event) -> None:
    event.assoc.dimse = _AnswersOnly(event.assoc)
    # let no message wait: Nagle and the peer's delayed ACK cost 40 ms for every small one
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""A storage SCP on loopback that answers as it is told."""

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.config import Destination
from tests.support.scp import shut_down


@dataclass
class Pacs:
    """What the SCP got, and how it answers."""

    destination: Destination
    #: status for the next object, asked for each
    answer: Callable[[Dataset], int] = lambda _: 0x0000
    received: list[Dataset] = field(default_factory=list)
    associations: int = 0
    #: SOP classes that the last association proposed
    proposed: set[str] = field(default_factory=set)


@contextmanager
def pacs(
    port: int,
    *sop_classes: str,
    ae_title: str = "PACS",
    transfer_syntaxes: Sequence[str] = (ExplicitVRLittleEndian,),
    ssl_context: ssl.SSLContext | None = None,
    acse_timeout_s: float = 30.0,
) -> Iterator[Pacs]:
    """Run a storage SCP that accepts these SOP classes, each in these transfer syntaxes.

    A connection on which nobody asks for an association, or that hung up, stands so long as
    `acse_timeout_s` says.
    """
    ae = AE(ae_title=ae_title)
    ae.acse_timeout = acse_timeout_s
    ae.require_called_aet = True
    for sop_class in (*sop_classes, "1.2.840.10008.1.1"):
        ae.add_supported_context(sop_class, list(transfer_syntaxes))
    state = Pacs(
        destination=Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5.0
        )
    )

    def store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        status = state.answer(dataset)
        if status == 0:
            state.received.append(dataset)
        return status

    def accepted(event: evt.Event) -> None:
        state.associations += 1
        contexts = event.assoc.requestor.requested_contexts
        state.proposed = {str(context.abstract_syntax) for context in contexts}

    ae.start_server(
        ("127.0.0.1", port),
        block=False,
        ssl_context=ssl_context,
        evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_ACCEPTED, accepted)],
    )
    try:
        yield state
    finally:
        shut_down(ae)

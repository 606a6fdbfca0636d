"""A modality on loopback that asks for storage commitment and takes the report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF

from tests.support.nodes import Node
from tests.support.scp import shut_down

PUSH_MODEL, PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
AVAILABILITY = "1.2.840.10008.5.1.4.33"


@dataclass(frozen=True)
class Report:
    """An N-EVENT-REPORT that came."""

    event_type: int
    transaction_uid: str
    #: SOP Instance UIDs
    kept: set[str]
    #: Failure Reason by SOP Instance UID
    failed: dict[str, int]


@dataclass
class Requester:
    """What it got, and how it answers."""

    port: int
    ae_title: str = "MODALITY1"
    reports: list[Report] = field(default_factory=list)
    #: status for the next report
    answer: Callable[[], int] = lambda: 0x0000
    #: associations that it took
    associations: int = 0
    #: whether it ends each association after one report
    is_curt: bool = False

    def request(
        self, node: Node, instances: Sequence[Dataset], transaction_uid: str | None = None
    ) -> int:
        """Ask the node to commit to some instances; return the status."""
        asked = Dataset()
        asked.TransactionUID = transaction_uid or generate_uid()
        asked.ReferencedSOPSequence = [reference(ds) for ds in instances]
        ae = AE(self.ae_title)
        ae.add_requested_context(PUSH_MODEL, ExplicitVRLittleEndian)
        assoc = ae.associate("127.0.0.1", node.port, ae_title="NODE")
        assert assoc.is_established
        status, _ = assoc.send_n_action(asked, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
        assoc.release()
        return int(status.Status)


def reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


@contextmanager
def requester(port: int) -> Iterator[Requester]:
    """Run the side of a modality that takes reports."""
    state = Requester(port)
    ae = AE(state.ae_title)
    ae.require_called_aet = True
    ae.add_supported_context(PUSH_MODEL, ExplicitVRLittleEndian, scu_role=True, scp_role=True)

    def take(event: evt.Event) -> tuple[int, None]:
        information = event.event_information
        status = state.answer()
        report = Report(
            event_type=int(event.event_type),
            transaction_uid=str(information.TransactionUID),
            kept={
                str(item.ReferencedSOPInstanceUID)
                for item in information.get("ReferencedSOPSequence", ())
            },
            failed={
                str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
                for item in information.get("FailedSOPSequence", ())
            },
        )
        if status == 0:
            state.reports.append(report)
        return status, None

    def begin(_: evt.Event) -> None:
        state.associations += 1

    def end(event: evt.Event) -> None:
        if state.is_curt and isinstance(event.pdu, P_DATA_TF):
            event.assoc.dul.socket.close()

    handlers = [
        (evt.EVT_N_EVENT_REPORT, take),
        (evt.EVT_ACCEPTED, begin),
        (evt.EVT_PDU_SENT, end),
    ]
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield state
    finally:
        shut_down(ae)

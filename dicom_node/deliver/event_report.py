"""Storage Commitment as SCP: the report on a request (PS3.4 J.3.3, N-EVENT-REPORT).

It goes on an association of its own to the requester: most release theirs right after N-ACTION. We
ask for it, and propose to be the SCP of the class (SCP/SCU Role Selection, PS3.7 D.3.3.4).
"""

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role
from pynetdicom.association import Association

from dicom_node.errors import DestinationDownError
from dicom_node.records import Reference

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
#: Event Type ID (PS3.4 Table J.3-2)
ALL_COMMITTED, FAILURES_EXIST = 1, 2


def report(
    transaction_uid: str,
    outcome: Sequence[tuple[Reference, int | None]],
    *,
    calling_ae_title: str,
    called_ae_title: str,
    address: tuple[str, int],
    timeout_s: float,
) -> None:
    """Tell a requester what is kept and what is not.

    Parameters
    ----------
    transaction_uid : str
        Of the request.
    outcome : sequence of (Reference, int or None)
        Each listed instance with its Failure Reason, None for what is kept.
    calling_ae_title, called_ae_title : str
        This node, and who asked.
    address : (str, int)
        Host and port of who asked.
    timeout_s : float

    Raises
    ------
    DestinationDownError
        When the report was not acknowledged.
    """
    assoc = _associate(calling_ae_title, called_ae_title, address, timeout_s)
    event_type = FAILURES_EXIST if any(reason for _, reason in outcome) else ALL_COMMITTED
    information = event_information(transaction_uid, outcome)
    try:
        answer, _ = assoc.send_n_event_report(
            information, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
    except (RuntimeError, ValueError):
        raise DestinationDownError("the requester dropped the association") from None
    finally:
        if assoc.is_established:
            assoc.release()
    if "Status" not in answer:
        raise DestinationDownError("the requester did not answer the report in time")
    if answer.Status != 0x0000:
        raise DestinationDownError(f"the requester answered the report with 0x{answer.Status:04X}")


def event_information(
    transaction_uid: str, outcome: Sequence[tuple[Reference, int | None]]
) -> Dataset:
    """Return the Event Information of a report (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    kept = [_item(reference) for reference, reason in outcome if reason is None]
    failed = [_item(reference, reason) for reference, reason in outcome if reason is not None]
    if kept:
        information.ReferencedSOPSequence = kept
    if failed:
        information.FailedSOPSequence = failed
    return information


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def _associate(
    calling_ae_title: str, called_ae_title: str, address: tuple[str, int], timeout_s: float
) -> Association:
    ae = AE(ae_title=calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = timeout_s
    ae.add_requested_context(PUSH_MODEL, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    host, port = address
    assoc = ae.associate(
        host,
        port,
        ae_title=called_ae_title,
        ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
    )
    if not assoc.is_established:
        raise DestinationDownError(
            f"{called_ae_title} at {host}:{port} takes no association for its report: check its "
            "port in node.callers, and that it knows this node's AE title"
        )
    return assoc

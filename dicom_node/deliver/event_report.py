"""Storage Commitment as SCP: the report on a request (PS3.4 J.3.3, N-EVENT-REPORT).

Reports go on an association of their own to the requester: most release theirs right after
N-ACTION. We ask for it, and propose to be the SCP of the class (SCP/SCU Role Selection, PS3.7
D.3.3.4).
"""

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from dicom_node.deliver.dimse import SYNTAXES
from dicom_node.errors import DestinationDownError
from dicom_node.records import Reference
from dicom_node.requestor import associate

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
#: Event Type ID (PS3.4 Table J.3-2)
ALL_COMMITTED, FAILURES_EXIST = 1, 2


class Requester:
    """Who takes reports, one after another over one association for as long as that stands.

    Parameters
    ----------
    calling_ae_title, ae_title : str
        This node, and who asked.
    host : str
    port : int
        Where it takes reports.
    timeout_s : float
    """

    def __init__(
        self, *, calling_ae_title: str, ae_title: str, host: str, port: int, timeout_s: float
    ) -> None:
        self.ae_title, self.host, self.port = ae_title, host, port
        self.timeout_s = timeout_s
        self._calling_ae_title = calling_ae_title
        self._assoc: Association | None = None
        #: whether the association carried a report that was acknowledged
        self._has_heard = False

    def connect(self) -> Association:
        """Return the association, a new one where none stands.

        Raises
        ------
        DestinationDownError
            When the requester takes none.
        """
        if self._assoc is None or not self._assoc.is_established:
            self._assoc = associate(
                self,
                [build_context(PUSH_MODEL, SYNTAXES)],
                calling_ae_title=self._calling_ae_title,
                roles=[build_role(PUSH_MODEL, scp_role=True)],
            )
            self._has_heard = False
        if not self._assoc.is_established:
            raise DestinationDownError(
                f"{self.ae_title} at {self.host}:{self.port} takes no association for its report: "
                "check its port in node.callers, and that it knows this node's AE title"
            )
        return self._assoc

    def tell(self, transaction_uid: str, outcome: Sequence[tuple[Reference, int | None]]) -> None:
        """Make a report, anew for a requester that ended the association after an earlier one.

        Raises
        ------
        DestinationDownError
            When the report was not acknowledged.
        """
        assoc = self.connect()
        try:
            report(assoc, transaction_uid, outcome)
        except DestinationDownError:
            if assoc.is_established or not self._has_heard:
                raise
            report(self.connect(), transaction_uid, outcome)
        self._has_heard = True

    def close(self) -> None:
        """Release the association."""
        if self._assoc is not None and self._assoc.is_established:
            self._assoc.release()


def report(
    assoc: Association,
    transaction_uid: str,
    outcome: Sequence[tuple[Reference, int | None]],
) -> None:
    """Tell a requester what is kept and what is not.

    Parameters
    ----------
    assoc : Association
        With the requester.
    transaction_uid : str
        Of the request.
    outcome : sequence of (Reference, int or None)
        Each listed instance with its Failure Reason, None for what is kept.

    Raises
    ------
    DestinationDownError
        When the report was not acknowledged.
    """
    event_type = FAILURES_EXIST if any(reason for _, reason in outcome) else ALL_COMMITTED
    information = event_information(transaction_uid, outcome)
    try:
        answer, _ = assoc.send_n_event_report(
            information, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
    except (RuntimeError, ValueError):
        raise DestinationDownError("the requester dropped the association") from None
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

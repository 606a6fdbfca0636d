"""Storage Commitment as SCU: a destination is asked to keep what it stored (PS3.4 J.3.2, N-ACTION).

The question goes over an association of its own. The report may come over the same one, for which
it is held open for a moment, or over one that the destination opens to the node's receivers.
"""

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.association import Association

from dicom_node import log
from dicom_node.config import Destination
from dicom_node.deliver.committed import settle
from dicom_node.deliver.dimse import open_association
from dicom_node.deliver.event_report import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    event_information,
)
from dicom_node.deliver.outcome import Answer, Verdict
from dicom_node.errors import PermanentError, TemporaryError
from dicom_node.header import BROKEN_BYTES
from dicom_node.outbox import Outbox
from dicom_node.records import Reference, Result, checked_uid

#: Action Type ID (PS3.4 Table J.3-1)
_REQUEST: Final = 1
#: So long the association is held open for the report.
SAME_ASSOCIATION_S: Final = 2.0
#: How often it is looked whether the report came another way.
_LOOK_S: Final = 0.1

NO_SERVICE: Final = (
    "the destination offers no Storage Commitment; set commitment: false or enable it there"
)
#: Status of N-ACTION (PS3.7 10.1.4.1.10): the words for ``queue list``.
REFUSALS: Final = {
    0x0112: "the destination has no Storage Commitment; set commitment: false or enable it there",
    0x0118: NO_SERVICE,
    0x0122: NO_SERVICE,
    0x0124: "the destination does not let this AE title ask for commitment; allow it there",
    0x0211: NO_SERVICE,
    0x0213: "resource limitation at the destination; free space there",
}
_UNKNOWN: Final = (
    "the destination refused to be asked for commitment; let it know this node's AE title, host "
    "and port, and see its log"
)


def ask_for_commitment(
    outbox: Outbox,
    destination: Destination,
    results: Sequence[Result],
    *,
    calling_ae_title: str,
    rng: random.Random,
) -> tuple[Answer, int]:
    """Ask a destination to commit to objects that it stored.

    Parameters
    ----------
    outbox : Outbox
        Knows the transaction before the destination does.
    destination : Destination
    results : sequence of Result
        What is stored there.
    calling_ae_title : str
        Our own AE title.
    rng : random.Random
        Source of the jitter.

    Returns
    -------
    tuple of Answer and int
        To the question; and how many objects were committed to over the same association.
    """
    uids = [result.sop_instance_uid for result in results]
    assoc, answer = open_association(destination, calling_ae_title, [PUSH_MODEL])
    if assoc is None:
        reason = NO_SERVICE if answer.is_class_refused else answer.reason
        _put_off(outbox, destination, uids, reason=reason, rng=rng)
        return answer, 0
    transaction_uid = generate_uid(prefix=None)
    outbox.promises.ask(transaction_uid, destination.name, uids, datetime.now(UTC))
    ear = _Ear(outbox, destination, rng)
    assoc.bind(evt.EVT_N_EVENT_REPORT, ear.take)
    try:
        answer = _ask(assoc, _information(transaction_uid, results))
        now = datetime.now(UTC)
        if answer.verdict is Verdict.DELIVERED:
            wait_s = destination.commitment_wait_s
            outbox.promises.taken(transaction_uid, wait_s=wait_s, now=now, rng=rng)
            _listen(assoc, outbox, transaction_uid)
            return answer, ear.committed
    finally:
        if assoc.is_established:
            assoc.release()
    if answer.status is not None:
        outbox.promises.refused(transaction_uid)
    _put_off(outbox, destination, uids, reason=answer.reason, rng=rng)
    return answer, ear.committed


def lacks_commitment(destination: Destination, *, calling_ae_title: str) -> str:
    """Ask whether a destination can be asked for commitment, and for none.

    Returns
    -------
    str
        "" when it can, else what is wrong and what to do.
    """
    assoc, answer = open_association(destination, calling_ae_title, [PUSH_MODEL])
    if assoc is None:
        return NO_SERVICE if answer.is_class_refused else answer.reason
    assoc.release()
    return ""


class _Ear:
    """Takes the reports that come over the association of the question."""

    def __init__(self, outbox: Outbox, destination: Destination, rng: random.Random) -> None:
        self._outbox, self._destination, self._rng = outbox, destination, rng
        self.committed = 0

    def take(self, event: evt.Event) -> tuple[int, None]:
        """Write a report into the outbox; answer Success when it stands there."""
        if event.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            return 0x0113, None
        try:
            data = event.event_information
            uid = checked_uid(str(data.TransactionUID), "Transaction UID")
            kept = [_reference(item) for item in data.get("ReferencedSOPSequence") or ()]
            failures = [
                (_reference(item), int(item.get("FailureReason") or 0x0110))
                for item in data.get("FailedSOPSequence") or ()
            ]
        except (PermanentError, *BROKEN_BYTES):
            return 0x0115, None
        try:
            settled = settle(self._outbox, self._destination, uid, kept, failures, rng=self._rng)
        except TemporaryError:
            return 0x0110, None
        self.committed += len(settled.delivered)
        return 0x0000, None


def _ask(assoc: Association, information: Dataset) -> Answer:
    try:
        answer, _ = assoc.send_n_action(information, _REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except ValueError:  # the context was not accepted, others were
        return Answer(verdict=Verdict.TEMPORARY, reason=NO_SERVICE)
    except RuntimeError:  # the association ended under our hands
        return Answer(verdict=Verdict.TEMPORARY, reason="the destination dropped the association")
    if "Status" not in answer:
        reason = "no answer in time to the question for commitment"
        return Answer(verdict=Verdict.TEMPORARY, reason=reason)
    status = int(answer.Status)
    if status == 0x0000:
        return Answer(verdict=Verdict.DELIVERED, status=status)
    reason = REFUSALS.get(status, _UNKNOWN)
    return Answer(verdict=Verdict.TEMPORARY, status=status, reason=f"0x{status:04X}: {reason}")


def _listen(assoc: Association, outbox: Outbox, transaction_uid: str) -> None:
    """Hold the association open for a moment, until all is settled one way or another."""
    deadline = time.monotonic() + SAME_ASSOCIATION_S
    assoc.dimse_timeout = _LOOK_S
    while assoc.is_established and time.monotonic() < deadline:
        if outbox.promises.destination_of(transaction_uid) is None:
            return
        assoc.dimse.get_msg(block=True)


def _information(transaction_uid: str, results: Sequence[Result]) -> Dataset:
    """Return the Action Information of a question (PS3.4 Table J.3-1)."""
    asked = [
        Reference(sop_class_uid=result.sop_class_uid, sop_instance_uid=result.sop_instance_uid)
        for result in results
    ]
    # the same attributes as in a report that all is kept
    return event_information(transaction_uid, [(reference, None) for reference in asked])


def _reference(item: Dataset) -> Reference:
    return Reference(
        sop_class_uid=str(item.ReferencedSOPClassUID),
        sop_instance_uid=str(item.ReferencedSOPInstanceUID),
    )


def _put_off(
    outbox: Outbox,
    destination: Destination,
    uids: Sequence[str],
    *,
    reason: str,
    rng: random.Random,
) -> None:
    log.get("deliver").warning(
        "commitment not asked for", destination=destination.name, reason=reason
    )
    reason = f"stored, not committed to: {reason}"
    now = datetime.now(UTC)
    outbox.promises.put_off(destination.name, uids, reason=reason, now=now, rng=rng)

"""C-STORE SCU: the objects of one study over one association (PS3.4 B).

Contexts are proposed for exactly the classes that are sent, Explicit VR Little Endian first:
archives mishandle 1-bit Pixel Data that they transcode themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node import log
from dicom_node.config import Destination
from dicom_node.header import BROKEN_BYTES
from dicom_node.records import Result
from dicom_node.requestor import associate
from dicom_node.sop_classes import COMPRESSED_RESULTS


class Verdict(StrEnum):
    """What an answer means for the outbox."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one object fared."""

    sop_instance_uid: str
    verdict: Verdict
    #: DIMSE status, None when there was no answer
    status: int | None
    #: for ``queue list``: what happened and what to do
    reason: str
    #: the SOP class of an object that the destination does not accept at all
    refused_class_uid: str | None = None


#: Verification SOP Class (PS3.4 A.4)
VERIFICATION = "1.2.840.10008.1.1"
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
#: Proposed in this order
SYNTAXES: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
#: First matching row speaks (low, high, verdict, reason). PS3.4 Table B.2-1, PS3.7 Annex C.
STATUSES: tuple[tuple[int, int, Verdict, str], ...] = (
    (0x0000, 0x0000, Verdict.DELIVERED, ""),
    (0xB000, 0xBFFF, Verdict.DELIVERED, "stored with a warning"),
    (0x0111, 0x0111, Verdict.DELIVERED, "was there already"),
    (0xA700, 0xA7FF, Verdict.TEMPORARY, "out of resources; free space at the destination"),
    (0x0110, 0x0110, Verdict.TEMPORARY, "processing failure; see the destination's log"),
    (0x0213, 0x0213, Verdict.TEMPORARY, "resource limitation at the destination"),
    (
        SOP_CLASS_NOT_SUPPORTED,
        SOP_CLASS_NOT_SUPPORTED,
        Verdict.PERMANENT,
        "SOP class not supported by the destination",
    ),
    (0x0124, 0x0124, Verdict.PERMANENT, "not authorised; allow this AE title to store"),
    (0xA900, 0xA9FF, Verdict.PERMANENT, "data set does not match its SOP class"),
    (0xC000, 0xCFFF, Verdict.PERMANENT, "the destination cannot understand the object"),
)


def send(
    results: Sequence[Result], destination: Destination, *, calling_ae_title: str
) -> Iterator[Outcome]:
    """Send objects and yield one outcome each, in order.

    Parameters
    ----------
    results : sequence of Result
        Objects of one study; their files must exist.
    destination : Destination
        Where to.
    calling_ae_title : str
        Our own AE title.
    """
    assoc = _associate(
        destination, calling_ae_title, sorted({result.sop_class_uid for result in results})
    )
    if not assoc.is_established and assoc.rejected_contexts:
        yield from (_not_accepted(result) for result in results)
        return
    if not assoc.is_established:
        verdict, reason = _refusal(assoc)
        for result in results:
            yield _outcome(result, verdict, None, reason)
        return
    try:
        for result in results:
            yield _store(assoc, result)
    finally:
        if assoc.is_established:
            assoc.release()


def echo(destination: Destination, *, calling_ae_title: str) -> str:
    """Ask a destination whether it is there (C-ECHO, PS3.4 A).

    Returns
    -------
    str
        "" when it answered, else what is wrong and what to do.
    """
    assoc = _associate(destination, calling_ae_title, [VERIFICATION])
    if not assoc.is_established:
        return _refusal(assoc)[1]
    status = assoc.send_c_echo()
    assoc.release()
    if status and status.Status == 0x0000:
        return ""
    return "no answer to C-ECHO; see the destination's log"


def _associate(
    destination: Destination, calling_ae_title: str, sop_classes: Sequence[str]
) -> Association:
    return associate(destination, contexts_for(sop_classes), calling_ae_title=calling_ae_title)


def contexts_for(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """Return a context for each class, with the transfer syntaxes that its objects have here."""
    return [
        build_context(sop_class, COMPRESSED_RESULTS.get(sop_class, SYNTAXES))
        for sop_class in sop_classes
    ]


def _refusal(assoc: Association) -> tuple[Verdict, str]:
    if not assoc.is_rejected:
        return Verdict.TEMPORARY, "no connection; check host, port and that the destination runs"
    primitive = assoc.acceptor.primitive
    if primitive is not None and primitive.result == 0x01:  # rejected permanent, PS3.8 9.3.4
        return (
            Verdict.PERMANENT,
            f"association rejected: {primitive.reason_str.lower()}; "
            "register this AE title at the destination, then 'dicom-node queue retry'",
        )
    return Verdict.TEMPORARY, "association rejected for now; the destination is busy"


def _store(assoc: Association, result: Result) -> Outcome:
    try:
        dataset = dcmread(result.path)
    except BROKEN_BYTES:
        reason = "its file in the results folder is missing or damaged; restore it from backup"
        return _outcome(result, Verdict.PERMANENT, None, reason)
    try:
        answer = assoc.send_c_store(dataset)
    except ValueError:  # no accepted context
        return _not_accepted(result)
    except RuntimeError:  # the association ended under our hands
        return _outcome(result, Verdict.TEMPORARY, None, "the destination dropped the association")
    if "Status" not in answer:
        return _outcome(result, Verdict.TEMPORARY, None, "no answer in time")
    return _judge(result, int(answer.Status))


def _not_accepted(result: Result) -> Outcome:
    reason = (
        f"the destination does not accept {result.kind.upper()} objects; "
        "enable that SOP class there or leave it out of 'send:'"
    )
    refused = _outcome(result, Verdict.PERMANENT, None, reason)
    return replace(refused, refused_class_uid=result.sop_class_uid)


def _judge(result: Result, status: int) -> Outcome:
    for low, high, verdict, reason in STATUSES:
        if low <= status <= high:
            refused = result.sop_class_uid if status == SOP_CLASS_NOT_SUPPORTED else None
            return replace(_outcome(result, verdict, status, reason), refused_class_uid=refused)
    return _outcome(result, Verdict.TEMPORARY, status, "unknown status; see the destination's log")


def _outcome(result: Result, verdict: Verdict, status: int | None, reason: str) -> Outcome:
    if verdict is not Verdict.DELIVERED:
        log.get("deliver").warning(
            "not delivered",
            sop_instance_uid=result.sop_instance_uid,
            state=verdict.value,
            status=status,
            reason=reason,
        )
    return Outcome(
        sop_instance_uid=result.sop_instance_uid, verdict=verdict, status=status, reason=reason
    )

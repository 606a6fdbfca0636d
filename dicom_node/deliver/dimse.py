"""C-STORE SCU: the objects of one study over one association (PS3.4 B).

Contexts are proposed for exactly the classes that are sent, Explicit VR Little Endian first:
archives mishandle 1-bit Pixel Data that they transcode themselves.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.config import Destination
from dicom_node.deliver.outcome import (
    LOST_FILE,
    Answer,
    Outcome,
    Verdict,
    judge,
    not_accepted,
    outcome,
    outcomes,
)
from dicom_node.deliver.secure import NO_CONNECTION, shake_hands, tls_of
from dicom_node.errors import ConfigError
from dicom_node.header import BROKEN_BYTES
from dicom_node.records import Result
from dicom_node.requestor import associate
from dicom_node.sop_classes import COMPRESSED_RESULTS

#: Verification SOP Class (PS3.4 A.4)
VERIFICATION = "1.2.840.10008.1.1"
#: Proposed in this order
SYNTAXES: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


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
    sop_classes = sorted({result.sop_class_uid for result in results})
    assoc, refusal = open_association(destination, calling_ae_title, sop_classes)
    if assoc is None and refusal.is_class_refused:
        yield from (outcome(result, not_accepted(result)) for result in results)
        return
    if assoc is None:
        yield from outcomes(results, refusal)
        return
    try:
        for result in results:
            yield outcome(result, _store(assoc, result))
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
    assoc, refusal = open_association(destination, calling_ae_title, [VERIFICATION])
    if assoc is None:
        return refusal.reason
    status = assoc.send_c_echo()
    assoc.release()
    if status and status.Status == 0x0000:
        return ""
    return "no answer to C-ECHO; see the destination's log"


_WENT_WELL: Final = Answer(verdict=Verdict.DELIVERED)
_NOTHING_TAKEN: Final = Answer(
    verdict=Verdict.PERMANENT,
    reason="accepts no association for what was proposed; enable the SOP class there",
    is_class_refused=True,
)


def open_association(
    destination: Destination, calling_ae_title: str, sop_classes: Sequence[str]
) -> tuple[Association | None, Answer]:
    """Ask for an association; return it, or None and why there is none."""
    try:
        tls = tls_of(destination)
    except ConfigError as exc:  # its files may be in the middle of a renewal
        return None, Answer(verdict=Verdict.TEMPORARY, reason=str(exc), is_down=True)
    contexts = contexts_for(sop_classes)
    assoc = associate(destination, contexts, calling_ae_title=calling_ae_title, tls=tls)
    if assoc.is_established:
        return assoc, _WENT_WELL
    if assoc.rejected_contexts:  # of all classes that were proposed
        return None, _NOTHING_TAKEN
    return None, _rejection(assoc) if assoc.is_rejected else _silence(destination)


def contexts_for(sop_classes: Sequence[str]) -> list[PresentationContext]:
    """Return a context for each class, with the transfer syntaxes that its objects have here."""
    return [
        build_context(sop_class, COMPRESSED_RESULTS.get(sop_class, SYNTAXES))
        for sop_class in sop_classes
    ]


def _silence(destination: Destination) -> Answer:
    reason = NO_CONNECTION
    if destination.tls is not None:
        fault, _ = shake_hands(destination)
        reason = fault or (
            "TLS came to be, but no association; the destination may want another certificate "
            "of the node: see tls.certificate, and the destination's log"
        )
    return Answer(verdict=Verdict.TEMPORARY, reason=reason, is_down=True)


def _rejection(assoc: Association) -> Answer:
    primitive = assoc.acceptor.primitive
    if primitive is not None and primitive.result == 0x01:  # rejected permanent, PS3.8 9.3.4
        reason = (
            f"association rejected: {primitive.reason_str.lower()}; "
            "register this AE title at the destination, then 'dicom-node queue retry'"
        )
        return Answer(verdict=Verdict.PERMANENT, reason=reason)
    reason = "association rejected for now; the destination is busy"
    return Answer(verdict=Verdict.TEMPORARY, reason=reason)


def _store(assoc: Association, result: Result) -> Answer:
    try:
        dataset = dcmread(result.path)
    except BROKEN_BYTES:
        return Answer(verdict=Verdict.PERMANENT, reason=LOST_FILE)
    try:
        answer = assoc.send_c_store(dataset)
    except ValueError:  # no accepted context
        return not_accepted(result)
    except RuntimeError:  # the association ended under our hands
        return Answer(verdict=Verdict.TEMPORARY, reason="the destination dropped the association")
    if "Status" not in answer:
        return Answer(verdict=Verdict.TEMPORARY, reason="no answer in time")
    return judge(int(answer.Status))

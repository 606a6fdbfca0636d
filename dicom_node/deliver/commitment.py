"""Storage commitment: what is kept, told to who asked, until it was heard (PS3.4 J.3)."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from dicom_node import log
from dicom_node.backoff import retry_delay_s
from dicom_node.config import NodeSettings
from dicom_node.deliver.event_report import report
from dicom_node.errors import DestinationDownError, UnreadableError
from dicom_node.header import data_set_offset
from dicom_node.index import CommitmentRow, CommitmentState, Index
from dicom_node.notices import report_address
from dicom_node.records import Instance, Reference

#: Failure Reason (0008,1197), PS3.3 C.14.1.1
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
#: A requester that is away for longer asks again.
GIVE_UP_AFTER: Final = timedelta(days=1)


def report_commitment(
    index: Index, settings: NodeSettings, file_id: str, *, rng: random.Random
) -> dict[str, int]:
    """Make one attempt at a report, and note in the index what became of it.

    What is listed is looked up now: the report says what is true when it is sent.

    Parameters
    ----------
    index : Index
        Must have been swept since the request came.
    settings : NodeSettings
        Says where the requester takes reports.
    file_id : str
        Of the request.
    rng : random.Random
        Source of the jitter.

    Returns
    -------
    dict of str to int
        How many instances were kept and failed; empty when nothing was owed.
    """
    commitment = index.commitments.find(file_id)
    if commitment is None or commitment.state is not CommitmentState.WAITING:
        return {}
    references = index.commitments.references(file_id)
    found = index.find_all([reference.sop_instance_uid for reference in references])
    outcome = outcome_of(references, found)
    counts = {"listed": len(outcome), "failed": sum(reason is not None for _, reason in outcome)}
    try:
        _send(commitment, outcome, settings)
    except DestinationDownError as exc:
        _put_off(index, commitment, str(exc), rng)
        return counts | {"put_off": 1}
    said = f"{counts['failed']} of {counts['listed']} failed" if counts["failed"] else ""
    index.commitments.settle(file_id, CommitmentState.REPORTED, reason=said)
    log.get("deliver").info("commitment reported", ae_title=commitment.ae_title, counts=counts)
    return counts


def outcome_of(
    references: Sequence[Reference], found: Mapping[str, Instance]
) -> list[tuple[Reference, int | None]]:
    """Pair the listed instances with their Failure Reasons, None for what is kept.

    Kept is what the index knows and the inbox holds, in the length that was registered.

    Parameters
    ----------
    references : sequence of Reference
        As the request lists them.
    found : mapping of str to Instance
        What the index knows of them, by SOP Instance UID.
    """
    return [
        (reference, _failure(reference, found.get(reference.sop_instance_uid)))
        for reference in references
    ]


def _failure(reference: Reference, found: Instance | None) -> int | None:
    if found is None:
        return NO_SUCH_OBJECT_INSTANCE
    if found.sop_class_uid != reference.sop_class_uid:
        return CLASS_INSTANCE_CONFLICT
    return None if _is_whole(found) else PROCESSING_FAILURE


def _is_whole(instance: Instance) -> bool:
    try:
        held = instance.path.stat().st_size - data_set_offset(instance.path)
    except (OSError, UnreadableError):
        return False
    return held == instance.size_bytes


def _send(
    commitment: CommitmentRow,
    outcome: Sequence[tuple[Reference, int | None]],
    settings: NodeSettings,
) -> None:
    address = report_address(settings.callers, commitment.ae_title, commitment.host)
    if address is None:
        raise DestinationDownError(
            f"no port to report to: give caller {commitment.ae_title} its port in node.callers"
        )
    report(
        commitment.transaction_uid,
        outcome,
        calling_ae_title=settings.ae_title,
        called_ae_title=commitment.ae_title,
        address=address,
        timeout_s=settings.network_timeout_s,
    )


def _put_off(index: Index, commitment: CommitmentRow, reason: str, rng: random.Random) -> None:
    now = datetime.now(UTC)
    is_over = now - commitment.received_at > GIVE_UP_AFTER
    if is_over:
        index.commitments.settle(
            commitment.file_id, CommitmentState.GIVEN_UP, reason=f"for a day: {reason}"
        )
    else:
        # handing it out counted this attempt already
        delay_s = retry_delay_s(max(0, commitment.attempts - 1), rng)
        due_at = now + timedelta(seconds=delay_s)
        index.commitments.postpone(commitment.file_id, reason=reason, due_at=due_at)
    write = log.get("deliver").error if is_over else log.get("deliver").warning
    write(
        "commitment given up" if is_over else "commitment not reported",
        ae_title=commitment.ae_title,
        reason=reason,
    )

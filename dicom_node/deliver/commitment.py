"""Storage commitment: what is kept, told to who asked, until it was heard (PS3.4 J.3)."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Final

from dicom_node import log
from dicom_node.backoff import retry_delay_s
from dicom_node.config import NodeSettings
from dicom_node.deliver.event_report import Requester
from dicom_node.errors import DestinationDownError, UnreadableError
from dicom_node.header import data_set_bytes
from dicom_node.index import CommitmentRow, CommitmentState, Index
from dicom_node.notices import report_address
from dicom_node.records import Instance, Reference

#: Failure Reason (0008,1197), PS3.3 C.14.1.1
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
#: A requester that is away for longer asks again.
GIVE_UP_AFTER: Final = timedelta(days=1)


def report_commitments(
    index: Index, settings: NodeSettings, file_ids: Sequence[str], *, rng: random.Random
) -> dict[str, int]:
    """Make one attempt at each report that a requester is owed, over one association.

    What is listed is looked up as each report is sent: it says what is true then. The index notes
    what became of a report before the next is sent, so a kill repeats at most one.

    Parameters
    ----------
    index : Index
        Must have been swept since the requests came.
    settings : NodeSettings
        Says where the requester takes reports.
    file_ids : sequence of str
        Of the requests, all of one AE title and host.
    rng : random.Random
        Source of the jitter.

    Returns
    -------
    dict of str to int
        How many instances were listed and failed, and how many reports were put off if any were;
        empty when nothing was owed.
    """
    owed = [row for row in map(index.commitments.find, file_ids) if row is not None]
    owed = [row for row in owed if row.state is CommitmentState.WAITING]
    if not owed:
        return {}
    counts = Counter(listed=0, failed=0)
    try:
        with closing(_requester(owed[0], settings)) as requester:
            while owed:
                requester.connect()
                counts.update(_attempt(index, requester, owed.pop(0), rng))
    except DestinationDownError as exc:
        _put_off(index, owed, str(exc), rng)
        counts["put_off"] += len(owed)
    return dict(counts)


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
        return data_set_bytes(instance.path) == instance.size_bytes
    except (OSError, UnreadableError):
        return False


def _requester(commitment: CommitmentRow, settings: NodeSettings) -> Requester:
    address = report_address(settings.callers, commitment.ae_title, commitment.host)
    if address is None:
        raise DestinationDownError(
            f"no port to report to: give caller {commitment.ae_title} its port in node.callers"
        )
    host, port = address
    return Requester(
        calling_ae_title=settings.ae_title,
        ae_title=commitment.ae_title,
        host=host,
        port=port,
        timeout_s=settings.network_timeout_s,
    )


def _attempt(
    index: Index, requester: Requester, commitment: CommitmentRow, rng: random.Random
) -> dict[str, int]:
    references = index.commitments.references(commitment.file_id)
    if not references:  # it was asked for anew while its turn came: that request is owed a report
        return {}
    found = index.find_all([reference.sop_instance_uid for reference in references])
    outcome = outcome_of(references, found)
    counts = {"listed": len(outcome), "failed": sum(reason is not None for _, reason in outcome)}
    try:
        requester.tell(commitment.transaction_uid, outcome)
    except DestinationDownError as exc:
        # it may be this report that the requester does not take: the next ones are tried
        _put_off(index, [commitment], str(exc), rng)
        return counts | {"put_off": 1}
    said = f"{counts['failed']} of {counts['listed']} failed" if counts["failed"] else ""
    index.commitments.settle(commitment.file_id, CommitmentState.REPORTED, reason=said)
    log.get("deliver").info("commitment reported", ae_title=commitment.ae_title, counts=counts)
    return counts


def _put_off(
    index: Index, commitments: Sequence[CommitmentRow], reason: str, rng: random.Random
) -> None:
    now = datetime.now(UTC)
    # handing it out counted this attempt already
    retries = {row.file_id: max(0, row.attempts - 1) for row in commitments}
    # what failed together as often is due together, for one association
    delays_s = {number: retry_delay_s(number, rng) for number in sorted(set(retries.values()))}
    for row in commitments:
        due_at = now + timedelta(seconds=delays_s[retries[row.file_id]])
        is_over = now - row.received_at > GIVE_UP_AFTER
        if is_over:
            index.commitments.settle(
                row.file_id, CommitmentState.GIVEN_UP, reason=f"for a day: {reason}"
            )
        else:
            index.commitments.postpone(row.file_id, reason=reason, due_at=due_at)
        write = log.get("deliver").error if is_over else log.get("deliver").warning
        write(
            "commitment given up" if is_over else "commitment not reported",
            ae_title=row.ae_title,
            reason=reason,
        )

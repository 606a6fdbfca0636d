"""What the answer of a destination that was asked for commitment means (PS3.4 J.3.3)."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from dicom_node import log, metrics
from dicom_node.config import Config, Destination
from dicom_node.deliver.outcome import Verdict
from dicom_node.outbox import DeliveryState, Outbox, Refusal, Settled
from dicom_node.records import Notice, Reference

#: Failure Reason (PS3.3 C.14.1.1): what follows, and the words for ``queue list``.
FAILURE_REASONS: Final[dict[int, tuple[DeliveryState, str]]] = {
    0x0110: (DeliveryState.WAITING, "processing failure; see the destination's log"),
    0x0112: (DeliveryState.WAITING, "the destination lost it; see its log"),
    0x0213: (DeliveryState.WAITING, "resource limitation at the destination; free space there"),
    0x0119: (
        DeliveryState.DEAD,
        "the destination has another class of object under its UID; delete that there",
    ),
    0x0122: (
        DeliveryState.DEAD,
        "the destination commits to no object of its class; enable that there or leave it out of "
        "'send:'",
    ),
    0x0131: (DeliveryState.STORED, "the destination knew the transaction already; asked anew"),
}
_UNKNOWN: Final = (DeliveryState.WAITING, "not committed to; see the destination's log")
#: As attempts are counted.
_VERDICTS: Final = {
    DeliveryState.WAITING: Verdict.TEMPORARY,
    DeliveryState.STORED: Verdict.TEMPORARY,
    DeliveryState.WITHDRAWN: Verdict.TEMPORARY,
    DeliveryState.DEAD: Verdict.PERMANENT,
}


def settle(
    outbox: Outbox,
    destination: Destination,
    transaction_uid: str,
    kept: Iterable[Reference],
    failures: Iterable[tuple[Reference, int]],
    *,
    rng: random.Random,
) -> Settled:
    """Write what a destination committed to, and what not, into the outbox; twice does no harm.

    Parameters
    ----------
    outbox : Outbox
    destination : Destination
        Who says so.
    transaction_uid : str
        As the report names it.
    kept : iterable of Reference
        What it committed to.
    failures : iterable of (Reference, int)
        What it did not, with the Failure Reason.
    rng : random.Random
        Source of the jitter.

    Returns
    -------
    Settled
        Empty when this destination was not asked in this transaction, or all is settled.
    """
    if outbox.promises.destination_of(transaction_uid) != destination.name:
        _ignored(destination.ae_title, "no transaction of this destination waits for a report")
        return Settled()
    settled = outbox.promises.settle(
        transaction_uid,
        [reference.sop_instance_uid for reference in kept],
        {reference.sop_instance_uid: _refusal(reason) for reference, reason in failures},
        now=datetime.now(UTC),
        rng=rng,
    )
    verdicts = [_VERDICTS[state] for state in settled.refused]
    for verdict in [Verdict.DELIVERED] * len(settled.delivered) + verdicts:
        metrics.count(metrics.DELIVERIES, destination.name, verdict.value)
    write = log.get("deliver").warning if settled.refused else log.get("deliver").info
    counts = {"committed": len(settled.delivered), "refused": len(settled.refused)}
    write("commitment came", destination=destination.name, counts=counts)
    return settled


def settle_notice(outbox: Outbox, config: Config, notice: Notice, *, rng: random.Random) -> Settled:
    """Do as `settle` with a report that a receiver took; only who was asked is believed."""
    name = outbox.promises.destination_of(notice.uid)
    asked = [
        destination
        for destination in config.destinations
        if isinstance(destination, Destination)
        and (destination.name, destination.ae_title) == (name, notice.calling_ae_title.strip())
    ]
    if not asked:
        _ignored(notice.calling_ae_title, "no transaction with this AE title waits for a report")
        return Settled()
    return settle(outbox, asked[0], notice.uid, notice.references, notice.failures, rng=rng)


def _refusal(status: int) -> Refusal:
    state, reason = FAILURE_REASONS.get(status, _UNKNOWN)
    return Refusal(state=state, status=status, reason=reason)


def _ignored(ae_title: str, reason: str) -> None:
    log.get("deliver").warning("commitment report ignored", ae_title=ae_title, reason=reason)

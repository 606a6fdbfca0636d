"""One attempt at what one destination is owed of one study."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime

from dicom_node import metrics
from dicom_node.config import Config, Destination
from dicom_node.deliver.dimse import Outcome, Verdict, send
from dicom_node.outbox import Errand, Outbox
from dicom_node.records import Result


def run_errand(
    outbox: Outbox, config: Config, errand: Errand, *, rng: random.Random
) -> dict[str, int]:
    """Send what is still owed, and write into the outbox what became of it.

    Parameters
    ----------
    outbox : Outbox
    config : Config
        Says where the destination is.
    errand : Errand
    rng : random.Random
        Source of the jitter.

    Returns
    -------
    dict of str to int
        How many objects met each `Verdict`; empty when nothing is owed any more.
    """
    owed = outbox.waiting(errand)
    if not owed:
        return {}
    destination = {d.name: d for d in config.destinations}.get(errand.destination)
    if destination is None:
        outcomes: Iterable[Outcome] = (_homeless(result) for result in owed)
    else:
        outcomes = send(owed, destination, calling_ae_title=config.node.ae_title)
    counts = {verdict.value: 0 for verdict in Verdict}
    for outcome in outcomes:
        counts[outcome.verdict.value] += 1
        metrics.count(metrics.DELIVERIES, errand.destination, outcome.verdict.value)
        if destination is None or not _replaced(outbox, destination, outcome):
            _settle(outbox, errand.destination, outcome, rng)
    return counts


def _homeless(result: Result) -> Outcome:
    return Outcome(
        sop_instance_uid=result.sop_instance_uid,
        verdict=Verdict.PERMANENT,
        status=None,
        reason="no such destination in the configuration; name it again or 'queue drop'",
    )


def _replaced(outbox: Outbox, destination: Destination, outcome: Outcome) -> bool:
    """Remember what was refused; whether another object takes its place."""
    if outcome.refused_class_uid is None:
        return False
    now, name = datetime.now(UTC), destination.name
    refused = {outcome.refused_class_uid: False}
    outbox.capabilities.note(name, destination.address, refused, now=now)
    return outbox.replace(outcome.sop_instance_uid, name, destination.fallback, now=now)


def _settle(outbox: Outbox, destination: str, outcome: Outcome, rng: random.Random) -> None:
    """Write what became of one object into its row."""
    uid, status, reason = outcome.sop_instance_uid, outcome.status, outcome.reason
    now = datetime.now(UTC)
    if outcome.verdict is Verdict.DELIVERED:
        outbox.delivered(uid, destination, status=status or 0, now=now)
    elif outcome.verdict is Verdict.PERMANENT:
        outbox.bury(uid, destination, status=status, reason=reason, now=now)
    else:
        outbox.postpone(uid, destination, status=status, reason=reason, now=now, rng=rng)

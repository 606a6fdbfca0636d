"""One attempt at what one destination is owed of one study."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime

from dicom_node import log, metrics
from dicom_node.config import AnyDestination, Config
from dicom_node.deliver.outcome import Outcome, Verdict
from dicom_node.deliver.sending import send_to
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
    name, now = errand.destination, datetime.now(UTC)
    outage = outbox.outages.find(name)
    if outage is not None and outage.probe != errand.study_instance_uid:
        # it went down since this was handed out: another finds out when it is up again
        outbox.put_back(errand, now)
        return {}
    owed = outbox.waiting(errand)
    if not owed:
        outbox.outages.nothing_found_out(name, now)
        return {}
    destination = {d.name: d for d in config.destinations}.get(name)
    if destination is None:
        outcomes: Iterable[Outcome] = (_homeless(result) for result in owed)
    else:
        outcomes = send_to(destination, owed, calling_ae_title=config.node.ae_title)
    counts = {verdict.value: 0 for verdict in Verdict}
    last: Outcome | None = None
    for outcome in outcomes:
        counts[outcome.verdict.value] += 1
        metrics.count(metrics.DELIVERIES, name, outcome.verdict.value)
        if destination is None or not _replaced(outbox, destination, outcome):
            _settle(outbox, name, outcome, rng)
        last = outcome
    if last is not None:
        _note(outbox, name, last, rng)
    return counts


def _note(outbox: Outbox, destination: str, last: Outcome, rng: random.Random) -> None:
    """Write down whether the destination is down."""
    if not last.is_down:
        if outbox.outages.ended(destination) is not None:
            log.get("deliver").info("destination is back", destination=destination)
        return
    reason = last.reason
    found = outbox.outages.failed(destination, reason=reason, now=datetime.now(UTC), rng=rng)
    if found is not None and found.failures == 1:
        log.get("deliver").warning("destination is down", destination=destination, reason=reason)


def _homeless(result: Result) -> Outcome:
    return Outcome(
        sop_instance_uid=result.sop_instance_uid,
        sop_class_uid=result.sop_class_uid,
        verdict=Verdict.PERMANENT,
        status=None,
        reason="no such destination in the configuration; name it again or 'queue drop'",
    )


def _replaced(outbox: Outbox, destination: AnyDestination, outcome: Outcome) -> bool:
    """Remember what was refused; whether another object takes its place."""
    if not outcome.is_class_refused:
        return False
    now, name = datetime.now(UTC), destination.name
    refused = {outcome.sop_class_uid: False}
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

"""One attempt at what one destination is owed of one study."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeGuard

from dicom_node import log, metrics
from dicom_node.config import AnyDestination, Config, Destination
from dicom_node.deliver.asking_commitment import ask_for_commitment
from dicom_node.deliver.outcome import Answer, Outcome, Verdict
from dicom_node.deliver.sending import send_to
from dicom_node.outbox import Errand, Outbox
from dicom_node.records import Result

#: Counted beside the verdicts: what is there, and not committed to.
STORED: Final = "stored"


def run_errand(
    outbox: Outbox, config: Config, errand: Errand, *, rng: random.Random
) -> dict[str, int]:
    """Send what is still owed and ask for its commitment; write into the outbox what became of it.

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
        How many objects met each `Verdict`, and how many are stored and not committed to; empty
        when nothing is owed any more.
    """
    name, now = errand.destination, datetime.now(UTC)
    outage = outbox.outages.find(name)
    if outage is not None and outage.probe != errand.study_instance_uid:
        # it went down since this was handed out: another finds out when it is up again
        outbox.put_back(errand, now)
        return {}
    owed = outbox.waiting(errand)
    if not owed and not outbox.unasked(errand, now):
        outbox.outages.nothing_found_out(name, now)
        return {}
    destination = {d.name: d for d in config.destinations}.get(name)
    if destination is None:
        owed += outbox.unasked(errand, now)
        outcomes: Iterable[Outcome] = (_homeless(result) for result in owed)
    else:
        outcomes = _sent(destination, owed, calling_ae_title=config.node.ae_title)
    counts = {verdict.value: 0 for verdict in Verdict}
    last: Answer | None = None
    for outcome in outcomes:
        word = _word(destination, outcome)
        counts[word] = counts.get(word, 0) + 1
        _take(outbox, name, destination, outcome, rng)
        last = outcome
    if destination is not None and (last is None or not last.is_down):
        asked, committed = _ask(outbox, config, destination, errand, rng)
        counts[Verdict.DELIVERED.value] += committed
        last = asked or last
    if last is None:
        outbox.outages.nothing_found_out(name, now)
    else:
        _note(outbox, name, last, rng)
    return counts


def _take(
    outbox: Outbox,
    name: str,
    destination: AnyDestination | None,
    outcome: Outcome,
    rng: random.Random,
) -> None:
    word = _word(destination, outcome)
    metrics.count(metrics.DELIVERIES, name, word)
    if destination is None or not _replaced(outbox, destination, outcome):
        _settle(outbox, name, outcome, word, rng)


def _sent(
    destination: AnyDestination, owed: Sequence[Result], *, calling_ae_title: str
) -> Iterable[Outcome]:
    """Send what is owed; there may be none, where all is stored."""
    return send_to(destination, owed, calling_ae_title=calling_ae_title) if owed else ()


def _word(destination: AnyDestination | None, outcome: Outcome) -> str:
    """Say how an object fared: one that is stored is not delivered where commitment is wanted."""
    is_stored = outcome.verdict is Verdict.DELIVERED and _wants_commitment(destination)
    return STORED if is_stored else outcome.verdict.value


def _wants_commitment(destination: AnyDestination | None) -> TypeGuard[Destination]:
    return isinstance(destination, Destination) and destination.commitment


def _ask(
    outbox: Outbox,
    config: Config,
    destination: AnyDestination,
    errand: Errand,
    rng: random.Random,
) -> tuple[Answer | None, int]:
    """Ask for the commitment of what is stored; return the answer, and what it settled at once."""
    now = datetime.now(UTC)
    stored = outbox.unasked(errand, now)
    if not stored:
        return None, 0
    if _wants_commitment(destination):
        title = config.node.ae_title
        return ask_for_commitment(outbox, destination, stored, calling_ae_title=title, rng=rng)
    uids = [result.sop_instance_uid for result in stored]
    outbox.promises.waive(destination.name, uids, now)
    return None, len(uids)


def _note(outbox: Outbox, destination: str, last: Answer, rng: random.Random) -> None:
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
    """Remember the class that was refused; whether another object takes the place of this one."""
    if not (outcome.is_class_refused or outcome.is_object_refused):
        return False
    now, name = datetime.now(UTC), destination.name
    if outcome.is_class_refused:
        refused = {outcome.sop_class_uid: False}
        outbox.capabilities.note(name, destination.address, refused, now=now)
    return outbox.replace(outcome.sop_instance_uid, name, destination.fallback, now=now)


def _settle(
    outbox: Outbox, destination: str, outcome: Outcome, word: str, rng: random.Random
) -> None:
    """Write what became of one object into its row."""
    uid, status, reason = outcome.sop_instance_uid, outcome.status, outcome.reason
    now = datetime.now(UTC)
    if word == STORED:
        outbox.promises.stored(uid, destination, status=status or 0, now=now)
    elif outcome.verdict is Verdict.DELIVERED:
        outbox.delivered(uid, destination, status=status or 0, now=now)
    elif outcome.verdict is Verdict.PERMANENT:
        outbox.bury(uid, destination, status=status, reason=reason, now=now)
    else:
        outbox.postpone(uid, destination, status=status, reason=reason, now=now, rng=rng)

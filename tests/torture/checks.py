"""What must be true when it is quiet again: each check names what breaks it."""

import hashlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from dicom_node.harvest.opening import STORE
from dicom_node.jobs import Dispatcher, database_url
from dicom_node.outbox import DeliveryState
from dicom_node.store import WeakLabelStore
from tests.support.nodes import Node
from tests.support.receiving import data_set
from tests.support.requesters import Requester
from tests.torture.destination import KINDS, Archive
from tests.torture.modalities import Ledger


def faults_of(node: Node, ledger: Ledger, archive: Archive) -> dict[str, list[str]]:
    """Look through a node that was stopped; return what is wrong, by the name of the check."""
    return {name: list(check(node, ledger, archive)) for name, check in CHECKS.items()}


def faults_of_reports(ledger: Ledger, modality: Requester) -> list[str]:
    """Return which requests for storage commitment were not answered with what is kept."""
    reports = list(modality.reports)
    found = []
    for transaction, asked in sorted(ledger.transactions.items()):
        ours = [report for report in reports if report.transaction_uid == transaction]
        if not ours:
            found.append(f"{transaction} has no report")
        if any(report.failed or report.kept != asked for report in ours):
            found.append(f"{transaction} was reported with failures: {ours}")
    return found


def left_jobs(node: Node) -> list[str]:
    """Return the jobs that wait or run."""
    dispatcher = Dispatcher(database_url(node.layout.jobs, None))
    try:
        return [f"{job.job_id} is {job.status}" for job in dispatcher.unfinished()]
    finally:
        dispatcher.close()


def _lost(node: Node, ledger: Ledger, _: Archive) -> Iterator[str]:
    with node.index() as index:
        for uid in sorted(ledger.acknowledged):
            instance = index.find(uid)
            if instance is None:
                yield f"{uid} is not in the index"
            elif not instance.path.is_file():
                yield f"{uid} has a row and no file"


def _changed(node: Node, ledger: Ledger, _: Archive) -> Iterator[str]:
    with node.index() as index:
        for uid in sorted(ledger.acknowledged):
            instance = index.find(uid)
            if instance is None or not instance.path.is_file():
                continue
            kept = hashlib.sha256(data_set(instance.path)).hexdigest()
            if {kept, instance.sha256} != {ledger.images[uid].sha256}:
                yield f"{uid} was kept with other bytes"


def _indexed_otherwise(node: Node, ledger: Ledger, _: Archive) -> Iterator[str]:
    with node.index() as index:
        count = index.counts()["instances"]
    if count != len(ledger.acknowledged):
        yield f"{count} rows for {len(ledger.acknowledged)} acknowledged instances"
    kept = len(list((node.layout.inbox / "kept").rglob("*.dcm")))
    if kept != count:
        yield f"{kept} files for {count} rows"


def _left_over(node: Node, _: Ledger, __: Archive) -> Iterator[str]:
    layout = node.layout
    yield from _files(layout.inbox / "tmp", "*")
    yield from _files(layout.inbox / "new", "*")
    yield from _files(layout.results, "*.part")
    yield from _files(layout.results / "stills", "*.part")
    yield from _files(layout.results / "rejected", "*")


def _quarantined(node: Node, _: Ledger, __: Archive) -> Iterator[str]:
    yield from _files(node.layout.inbox / "quarantine", "*")


def _unanswered(_: Node, ledger: Ledger, archive: Archive) -> Iterator[str]:
    for uid in sorted(ledger.acknowledged):
        for kind in KINDS.values():
            if (uid, kind) not in archive.results:
                yield f"{uid} has no {kind.upper()} at the destination"
    yield from hidden(ledger, archive)


def hidden(ledger: Ledger, archive: Archive) -> Iterator[str]:
    """Yield the images of which something is said, but not in the last object of its series."""
    for (uid, kind), objects in sorted(archive.results.items()):
        series = {archive.places[one][0] for one in objects}
        if uid in ledger.images and objects.isdisjoint(map(archive.last_of, series)):
            yield f"{uid} is not in the last {kind.upper()} of its series"


def _answered_twice(_: Node, ledger: Ledger, archive: Archive) -> Iterator[str]:
    yield from repeated(ledger, archive)
    for uid in sorted(archive.changed):
        yield f"{uid} came again with other bytes"


def repeated(ledger: Ledger, archive: Archive) -> Iterator[str]:
    """Yield what was said more than once of an image, or of one that nobody sent.

    A still that comes late gives the next version of the SEG that it shares with others.
    """
    for (uid, kind), objects in sorted(archive.results.items()):
        if uid not in ledger.images:
            yield f"{kind.upper()} for {uid}, which nobody sent"
            continue
        places = {archive.places[one] for one in objects}
        series = {one for one, _ in places}
        may_follow = kind == "seg" and ledger.images[uid].frames == 1
        if len(series) > 1 or len(places) < len(objects) or (len(objects) > 1 and not may_follow):
            yield f"{len(objects)} objects {kind.upper()} for {uid}"


def _undelivered(node: Node, _: Ledger, archive: Archive) -> Iterator[str]:
    with node.outbox() as outbox:
        counts = outbox.counts()
    for state in (DeliveryState.WAITING, DeliveryState.DEAD):
        if counts[state]:
            yield f"{counts[state]} deliveries {state.value}"
    if counts[DeliveryState.DELIVERED] < len(archive.objects):
        yield f"{counts[DeliveryState.DELIVERED]} delivered, {len(archive.objects)} came"


def _jobs(node: Node, _: Ledger, __: Archive) -> Iterator[str]:
    dispatcher = Dispatcher(database_url(node.layout.jobs, None))
    try:
        for job in dispatcher.failed():
            yield f"{job.job_id} is {job.status} {job.error}"
    finally:
        dispatcher.close()
    yield from left_jobs(node)


def _harvested_otherwise(node: Node, ledger: Ledger, _: Archive) -> Iterator[str]:
    expected = sum(ledger.images[uid].frames for uid in ledger.acknowledged)
    with WeakLabelStore(node.layout.data / STORE) as store:
        found = store.info().frames
    if found != expected:
        yield f"{found} frames in the store, {expected} were sent"


def _ended_by_themselves(node: Node, _: Ledger, __: Archive) -> Iterator[str]:
    yield from unexpected_ends(node.log)


def unexpected_ends(log: str) -> list[str]:
    """Return the lines of a node's log that tell of a process which ended and was not killed."""
    return [line for line in log.splitlines() if _CHILD_FAILED in line or _is_no_kill(line)]


_CHILD_FAILED = '"event": "child failed"'
_CHILD_ENDED = '"event": "child ended, starting it again"'


def _is_no_kill(line: str) -> bool:
    killed = rf'"status": {-signal.SIGKILL}\b'
    return _CHILD_ENDED in line and not re.search(killed, line)


def _files(folder: Path, pattern: str) -> Iterator[str]:
    if folder.is_dir():
        yield from (f"{path.parent.name}/{path.name}" for path in sorted(folder.glob(pattern)))


CHECKS: dict[str, Callable[[Node, Ledger, Archive], Iterator[str]]] = {
    "acknowledged instances lost": _lost,
    "acknowledged instances kept with other bytes": _changed,
    "rows or files that do not match the acknowledgements": _indexed_otherwise,
    "frames that do not match the acknowledgements": _harvested_otherwise,
    "files left over": _left_over,
    "files in quarantine": _quarantined,
    "results that are missing at the destination": _unanswered,
    "results that are more than one at the destination": _answered_twice,
    "deliveries that do not match the destination": _undelivered,
    "jobs that failed or never ended": _jobs,
    "processes that ended by themselves": _ended_by_themselves,
}

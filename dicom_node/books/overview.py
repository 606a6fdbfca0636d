"""The node as a whole: what needs a look, how much went which way, the latest studies."""

import http.client
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from dicom_node.books.fellows import other_nodes
from dicom_node.books.opened import Books, opened
from dicom_node.books.where import clock, facts_of, many, place_of
from dicom_node.config import Config, WebSettings
from dicom_node.inbox import Inbox
from dicom_node.index import CommitmentState, Index
from dicom_node.jobs import Dispatcher, JobRow
from dicom_node.node.layout import open_inbox
from dicom_node.outbox import DeliveryState, Outbox
from dicom_node.sop_classes import RESULTS

#: How many of each kind --json names.
LATEST: Final = 20
#: What waits for a destination for so long needs a look.
OWED_S: Final = 600.0
_HEALTH_S: Final = 3.0
#: Deliveries among which the last reason is looked for.
_ROWS: Final = 200
#: Any address, and how it is reached from here.
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A node's books, at one moment."""

    config: Config
    index: Index
    outbox: Outbox
    jobs: Dispatcher
    inbox: Inbox
    now: datetime
    failed: Sequence[JobRow]


class Trouble(NamedTuple):
    """What needs a look, and the first step."""

    what: str
    cure: str


def collect(config: Config) -> dict[str, Any]:
    """Return what ``status --json`` prints."""
    with opened(config) as books:
        return tell(books)


def tell(of: Books) -> dict[str, Any]:
    """Return what ``status --json`` prints, out of databases that are open."""
    config = of.config
    books = Opened(
        config=config,
        index=of.index,
        outbox=of.outbox,
        jobs=of.jobs,
        inbox=open_inbox(config),
        now=datetime.now(UTC),
        failed=of.jobs.failed(),
    )
    node, faults = _health(config)
    troubles = [*faults, *(trouble for look in _LOOKS for trouble in look(books))]
    return {
        "asked_at": books.now.isoformat(timespec="seconds"),
        "node": node,
        "needs_a_look": [trouble._asdict() for trouble in troubles],
        "counts": _counts(books),
        # the latest; the files lie in inbox/quarantine under the data folder
        "quarantine": [
            {"file": f"{file_id}.dcm", "reason": reason}
            for file_id, reason in books.inbox.quarantined(LATEST)
        ],
        "destinations_down": _down(books),
        "destinations": _accepted(books.outbox),
        "commitments": _commitments(books.index),
        "failed_jobs": [
            {"job": job.job_id, "error": job.error, "cure": job.cure} for job in books.failed
        ],
        # those that share this node's database
        "other_nodes": other_nodes(config, books.jobs),
        "studies": [_study(books, row) for row in books.index.studies(LATEST)],
    }


def _study(books: Opened, row: Any) -> dict[str, Any]:
    facts = facts_of(row, books.config, outbox=books.outbox, jobs=books.jobs, now=books.now)
    place = place_of(facts)
    return {
        "study_instance_uid": row.study_instance_uid,
        "instances": row.instances,
        "state": row.state.value,
        "revision": row.revision,
        "reason": row.reason,
        "last_received_at": row.last_received_at.isoformat(timespec="seconds"),
        "where": place.word,
        "sentence": place.sentence,
    }


def _counts(books: Opened) -> dict[str, int]:
    commitments = books.index.commitments.counts().items()
    return {
        **books.index.counts(),
        "quarantined": len(books.inbox.quarantined_ids()),
        "waiting_to_be_registered": len(books.inbox.waiting()),
        "jobs_unfinished": len(books.jobs.unfinished()),
        "jobs_failed": len(books.failed),
        "jobs_cancelled": len(books.jobs.cancelled()),
        **{f"deliveries_{state.value}": n for state, n in books.outbox.counts().items()},
        "results_in_the_shadow": books.outbox.shadow_count(),
        **{f"commitments_{state.value.replace(' ', '_')}": n for state, n in commitments},
        "disk_free_bytes": shutil.disk_usage(books.config.node.data).free,
    }


def _accepted(outbox: Outbox) -> list[dict[str, Any]]:
    """Return what is known of what each destination accepts."""
    return [
        {
            "destination": row.destination,
            "sop_class": RESULTS.get(row.sop_class_uid, row.sop_class_uid),
            "accepted": row.accepted,
            "asked_at": row.asked_at.isoformat(timespec="seconds"),
        }
        for row in outbox.capabilities.rows()
    ]


def _commitments(index: Index) -> list[dict[str, Any]]:
    """Return what is owed a report, or was for a day and got none."""
    return [
        {
            "asked_by": row.ae_title,
            "instances": row.instances,
            "state": row.state.value,
            "attempts": row.attempts,
            "reason": row.reason,
        }
        for row in index.commitments.latest(
            LATEST, CommitmentState.WAITING, CommitmentState.GIVEN_UP
        )
    ]


def _health(config: Config) -> tuple[str, list[Trouble]]:
    """Return whether the node runs, and what it says is wrong with it."""
    web = config.web
    if web is None:
        return "was not asked how it is: 'web:' is not in the configuration", []
    try:
        checks = _asked(web)
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as exc:
        trouble = Trouble(
            f"the node does not answer on {web.bind}:{web.port} ({type(exc).__name__})",
            "start it with 'dicom-node serve', or see its log",
        )
        return "does not answer", [trouble]
    faults = [
        Trouble(f"{check['name']}: {check['fault']}", str(check["cure"]))
        for check in checks
        if not check["healthy"]
    ]
    return ("runs, with faults" if faults else "runs, and is well"), faults


def _asked(web: WebSettings) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(
        _ANY.get(web.bind, web.bind), web.port, timeout=_HEALTH_S
    )
    try:
        connection.request("GET", "/healthz")
        checks: list[dict[str, Any]] = json.loads(connection.getresponse().read())["checks"]
    finally:
        connection.close()
    return checks


def _failed_jobs(books: Opened) -> Iterator[Trouble]:
    put_off = [job for job in books.failed if job.is_put_off]
    failed = [job for job in books.failed if not job.is_put_off]
    if put_off:
        yield Trouble(f"{many(len(put_off), 'job')} put off", put_off[0].cure)
    if failed:
        errors = ", ".join(sorted({job.error or "killed again and again" for job in failed}))
        yield Trouble(
            f"{many(len(failed), 'job')} failed ({errors})",
            "see 'job failed' in the log, then 'dicom-node queue retry'",
        )


def _down(books: Opened) -> list[dict[str, Any]]:
    """Return the configured destinations that are down, the longest first."""
    names = {destination.name for destination in books.config.destinations}
    return [
        {
            "destination": outage.destination,
            "since": outage.since.isoformat(timespec="seconds"),
            "attempts": outage.failures,
            "next_try": outage.next_try_at.isoformat(timespec="seconds"),
            "reason": outage.reason,
        }
        for outage in books.outbox.outages.all()
        if outage.destination in names
    ]


def _outages(books: Opened) -> Iterator[Trouble]:
    for row in _down(books):
        since, again = (clock(row[key]) for key in ("since", "next_try"))
        yield Trouble(
            f"{row['destination']} is down since {since}, after {many(row['attempts'], 'attempt')}",
            f"{row['reason']}; it is tried again at {again}",
        )


def _owed(books: Opened) -> Iterator[Trouble]:
    for backlog in books.outbox.backlogs():
        waited_s = (books.now - backlog.oldest_at).total_seconds()
        if backlog.state is DeliveryState.WAITING and waited_s < OWED_S:
            continue
        rows = books.outbox.rows(backlog.state, limit=_ROWS)
        reason = next((row.reason for row in rows if row.destination == backlog.destination), "")
        if backlog.state is DeliveryState.STORED and not reason:
            continue  # its report is waited for, as it should be
        told = _BACKLOGS[backlog.state]
        since = clock(backlog.oldest_at)
        yield Trouble(
            f"{many(backlog.count, 'result')} {told} {backlog.destination}, the oldest of {since}",
            f"{reason or 'no attempt was made yet'}; 'dicom-node queue list' has all of them",
        )


def _rejected(books: Opened) -> Iterator[Trouble]:
    rejections = books.outbox.trail.rejections()
    if rejections:
        last = rejections[0]
        yield Trouble(
            f"the results of {many(len(rejections), 'image')} were not fit to leave, last at "
            f"{clock(last.rejected_at)}: {last.reason}",
            "they are kept in results/rejected: report it, it is a fault of this program",
        )


def _quarantine(books: Opened) -> Iterator[Trouble]:
    ids = books.inbox.quarantined_ids()
    for file_id, reason in books.inbox.quarantined(1):
        yield Trouble(
            f"{many(len(ids), 'file')} in quarantine, the last {file_id}.dcm: {reason}",
            "the sender has to say which bytes are right; --json names the last ones",
        )


def _reports(books: Opened) -> Iterator[Trouble]:
    given_up = books.index.commitments.latest(1, CommitmentState.GIVEN_UP)
    for row in given_up:
        yield Trouble(
            f"a storage commitment report to {row.ae_title} was given up: {row.reason}",
            "mend what it says; the modality has to ask again",
        )


_BACKLOGS: Final = {
    DeliveryState.WAITING: "on the way to",
    DeliveryState.STORED: "stored and not committed to by",
    DeliveryState.DEAD: "given up for",
}
_LOOKS: Final[tuple[Callable[[Opened], Iterator[Trouble]], ...]] = (
    _failed_jobs,
    _outages,
    _owed,
    _rejected,
    _quarantine,
    _reports,
)

"""Where a study is, in one sentence: the first look that has something to say speaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dicom_node.config import Config
from dicom_node.index import Index, StudyRow, StudyState
from dicom_node.jobs import Dispatcher, JobRow, study_job
from dicom_node.outbox import DeliveryRow, DeliveryState, Outbox

#: A sweep that is on time completes a study within this.
_LATE: Final = timedelta(seconds=30)
#: End of a UID that is enough for a narrow column.
_TAIL: Final = 24
_JOB_STATES: Final = {
    "PENDING": ("working", "it is being worked on"),
    "ENQUEUED": ("waiting", "its work waits for its turn"),
    "DELAYED": ("waiting", "its work waits for its turn"),
    "ERROR": ("failed", "its work failed"),
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": ("failed", "its work ended the process again and again"),
    "CANCELLED": ("cancelled", "its work was cancelled"),
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a study."""

    study: StudyRow
    #: the work on its last completion; None before it was handed out, and when it is done
    job: JobRow | None
    deliveries: Sequence[DeliveryRow]
    #: objects that passed the gate
    passed: int
    #: images whose results did not
    rejected: int
    quiet_s: float
    now: datetime

    def in_state(self, state: DeliveryState) -> list[DeliveryRow]:
        """Return the deliveries in a state."""
        return [row for row in self.deliveries if row.state is state]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a study is."""

    #: for a script and a narrow column
    word: str
    #: for a person, with the cure where one is needed
    sentence: str


def facts_of(
    study: StudyRow, config: Config, *, outbox: Outbox, jobs: Dispatcher, now: datetime
) -> Facts:
    """Collect what is known of a study."""
    uid = study.study_instance_uid
    job = None
    if study.finished < study.revision:
        job = jobs.find(study_job(uid, study.revision, study.completed_at))
    return Facts(
        study=study,
        job=job,
        deliveries=outbox.rows(study=uid),
        passed=len(outbox.trail.passed(uid)),
        rejected=len(outbox.trail.rejections(uid)),
        quiet_s=config.study.quiet_s,
        now=now,
    )


def place_of(facts: Facts) -> Place:
    """Say where a study is."""
    return next(place for look in _LOOKS if (place := look(facts)) is not None)


def found(index: Index, part: str, limit: int) -> list[str]:
    """Return the studies that a person may mean by a part of a UID; the whole one is meant."""
    uids = index.find_studies(part, limit)
    return uids[:1] if uids[:1] == [part] else uids


def clock(moment: datetime | str | None) -> str:
    """Return a time, or one in ISO's form, as the screens tell it: UTC, to the second."""
    if isinstance(moment, datetime):
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    return (moment or "")[:19].replace("T", " ")


def tail(uid: str) -> str:
    """Return the end of a UID that tells studies apart in a narrow column."""
    return uid if len(uid) <= _TAIL else f"...{uid[-_TAIL:]}"


def many(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _open(facts: Facts) -> Place | None:
    study = facts.study
    if study.state is not StudyState.OPEN:
        return None
    due = study.last_received_at + timedelta(seconds=facts.quiet_s)
    if facts.now > due + _LATE:
        told = (
            f"it is due since {clock(due)}: the node does not run, or does not keep up; "
            "'dicom-node status' tells"
        )
    else:
        told = f"it is complete at {clock(due)} when nothing more comes"
    return Place(word="open", sentence=f"it is open, more may come; {told}")


def _unfinished(facts: Facts) -> Place | None:
    if facts.study.finished >= facts.study.revision:
        return None
    if facts.job is None:
        return Place(
            word="waiting", sentence="it is complete, and its work waits to be handed out, or again"
        )
    word, told = _JOB_STATES.get(facts.job.status, ("waiting", "its work is about to end"))
    if facts.job.cure:
        why = f" ({facts.job.error})" if facts.job.error else ""
        told += f"{why}; {facts.job.cure}"
    return Place(word=word, sentence=f"it is complete, and {told}")


def _given_up(facts: Facts) -> Place | None:
    dead = facts.in_state(DeliveryState.DEAD)
    if not dead:
        return None
    return Place(
        word="given up",
        sentence=f"{many(len(dead), 'result')} will not reach {_names(dead)}: "
        f"{dead[0].reason}; mend that, then 'dicom-node queue retry'",
    )


def _owed(facts: Facts) -> Place | None:
    waiting = facts.in_state(DeliveryState.WAITING)
    if not waiting:
        return None
    tried = [row for row in waiting if row.attempts]
    soonest = min(row.due_at for row in waiting)
    when = f"next try at {clock(soonest)}" if soonest > facts.now else "its turn is now"
    why = f"; last time: {tried[0].reason}" if tried else ""
    told = f"{many(len(waiting), 'result')} on the way to {_names(waiting)}, {when}{why}"
    return Place(word="late" if tried else "sending", sentence=told)


def _uncommitted(facts: Facts) -> Place | None:
    stored = facts.in_state(DeliveryState.STORED)
    if not stored:
        return None
    reason = next((row.reason for row in stored if row.reason), "its report is waited for")
    told = f"{many(len(stored), 'result')} stored at {_names(stored)}, and not committed to yet"
    return Place(word="stored", sentence=f"{told}: {reason}")


def _rejected(facts: Facts) -> Place | None:
    if not facts.rejected:
        return None
    return Place(
        word="rejected",
        sentence=f"the results of {many(facts.rejected, 'image')} were not fit to leave and are "
        "kept in results/rejected; report it, it is a fault of this program",
    )


def _nothing(facts: Facts) -> Place | None:
    if facts.passed:
        return None
    return Place(word="no result", sentence="it was worked on, and there is no result to deliver")


def _arrived(facts: Facts) -> Place:
    there = facts.in_state(DeliveryState.DELIVERED)
    if not there:
        return Place(
            word="kept",
            sentence=f"{many(facts.passed, 'result')} kept here, no destination wants"
            " them: see 'destinations' in the configuration",
        )
    last = max(row.changed_at for row in there)
    told = f"{many(len(there), 'result')} delivered to {_names(there)} by {clock(last)}"
    return Place(word="delivered", sentence=told)


def _names(rows: Sequence[DeliveryRow]) -> str:
    return ", ".join(sorted({row.destination for row in rows}))


_LOOKS: Final[tuple[Callable[[Facts], Place | None], ...]] = (
    _open,
    _unfinished,
    _given_up,
    _owed,
    _uncommitted,
    _rejected,
    _nothing,
    _arrived,
)

"""Deliveries and jobs, row by row, as a person reads them."""

from collections.abc import Sequence
from typing import Any, Final

from dicom_node.errors import PermanentError
from dicom_node.jobs import Dispatcher, JobRow
from dicom_node.outbox import UNSETTLED, DeliveryRow, DeliveryState, Outbox

#: How many deliveries are named.
MOST_DELIVERIES: Final = 1000
#: How many jobs the screen shows of each kind.
MOST_JOBS: Final = 100
#: What DBOS calls a state, and what a person reads.
_STATES: Final = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "parked",
    "CANCELLED": "cancelled",
}
#: What the node is not done with.
OWED: Final = (*UNSETTLED, DeliveryState.DEAD)


def collect(
    outbox: Outbox,
    jobs: Dispatcher,
    states: Sequence[DeliveryState] = OWED,
    *,
    destination: str | None = None,
    limit: int = MOST_DELIVERIES,
) -> dict[str, Any]:
    """Return deliveries in these states (all when none is named), and the jobs that are not done.

    The latest change comes first.
    """
    rows = outbox.rows(*states, destination=destination, limit=limit)
    return {
        "deliveries": [record(row) for row in rows],
        "failed_jobs": [_stopped(job) for job in jobs.failed()],
        "cancelled_jobs": [_stopped(job) for job in jobs.cancelled(MOST_JOBS)],
        "unfinished_jobs": [
            {"job": job.job_id, "state": state_of(job)} for job in jobs.unfinished(MOST_JOBS)
        ],
    }


def retry_job(jobs: Dispatcher, job_id: str) -> None:
    """Run a job again that failed or was cancelled.

    Raises
    ------
    PermanentError
        When there is none, or it did neither.
    """
    found = _one(jobs, job_id)
    if found not in (*jobs.failed(), *jobs.cancelled()):
        raise PermanentError(f"{job_id!r} neither failed nor was cancelled: {state_of(found)}")
    jobs.retry(found)


def cancel_job(jobs: Dispatcher, job_id: str) -> JobRow:
    """Stop a job that waits or runs, and return it.

    Raises
    ------
    PermanentError
        When there is none, or it does neither.
    """
    found = _one(jobs, job_id)
    if found not in jobs.unfinished():
        raise PermanentError(f"{job_id!r} neither waits nor runs: it is {state_of(found)}")
    jobs.cancel(found)
    return found


def _one(jobs: Dispatcher, job_id: str) -> JobRow:
    found = jobs.find(job_id)
    if found is None:
        raise PermanentError(f"no job {job_id!r}; dicom-node queue list names them")
    return found


def state_of(job: JobRow) -> str:
    """Return what a person calls the state of a job."""
    if job.is_put_off:
        return "put off"
    return _STATES.get(job.status, job.status.lower())


def _stopped(job: JobRow) -> dict[str, str]:
    return {"job": job.job_id, "state": state_of(job), "error": job.error, "cure": job.cure}


def record(row: DeliveryRow) -> dict[str, object]:
    """Return a delivery as ``queue list --json`` prints it."""
    return {
        "state": row.state.value,
        "destination": row.destination,
        "kind": row.kind.value,
        "study_instance_uid": row.study_instance_uid,
        "attempts": row.attempts,
        "due_at": row.due_at.isoformat(timespec="seconds") if row.state in UNSETTLED else "",
        "status": "" if row.status is None else f"0x{row.status:04X}",
        "reason": row.reason,
        "sop_instance_uid": row.sop_instance_uid,
        "changed_at": row.changed_at.isoformat(timespec="seconds"),
        "version": row.version,
        "supersedes": row.supersedes or "",
    }

"""Durable jobs: the one module that knows DBOS Transact.

A job is a named chain of stages. Each finished stage is a checkpoint: after kill -9 a job goes on
with the stage that was running. Stages run at least once, so every stage is idempotent. A job's id
is derived from what it is about, so handing the same job out twice runs it once.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, WorkflowStatus

from dicom_node import log
from dicom_node.errors import DatabaseDownError, TemporaryError

#: Rows of another version would be stranded by an upgrade: it moves only with incompatible stages.
APPLICATION_VERSION = "1"
APPLICATION_NAME = "dicom-node"
#: A job that was begun again so often, each time after its process was killed, is poison and stays
#: parked. Kills from outside may hit an innocent job each time, which then needs a person: hence so
#: many. With the pauses before a child is started again, poison disturbs the worker ten minutes.
MAX_RECOVERY_ATTEMPTS = 20
POLL_S = 0.25

Stage = Callable[[Sequence[str]], dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of job: its stages in order, and how many may run at once."""

    stages: tuple[tuple[str, Stage], ...]
    at_once: int
    #: one at a time for each value of the job's first argument
    partitioned: bool = False


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job, as ``status`` shows it."""

    job_id: str
    kind: str
    status: str
    #: name of the error that ended it, "" when none
    error: str


def study_job(study_instance_uid: str, revision: int, completed_at: datetime | None) -> str:
    """Name the work on one completion; with its time, as a rebuilt index counts from 1 again."""
    at = completed_at.timestamp() if completed_at else 0.0
    return f"study:{study_instance_uid}:{revision}:{at:.6f}"


def database_url(path: Path, configured: str | None) -> str:
    """Return the address of the jobs' database, prepared for use.

    Parameters
    ----------
    path : Path
        SQLite file for a site that configured no database.
    configured : str or None
        ``database:`` of the configuration.
    """
    if configured is not None:
        return configured
    path.touch(mode=0o600)
    with sqlite3.connect(path) as connection:  # DBOS leaves the slow journal on
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return f"sqlite:///{path}"


class Worker:
    """Runs jobs in this process's threads until closed.

    Parameters
    ----------
    url : str
        From `database_url`.
    kinds : mapping of str to Kind
        Every kind of job that may be found in the database.
    executor_id : str
        Stable over restarts: a process takes up the unfinished jobs of its own id.
    max_recovery_attempts : int, optional
        How often a job is begun again after a kill before it is parked as failed.
    """

    def __init__(
        self,
        url: str,
        kinds: Mapping[str, Kind],
        *,
        executor_id: str,
        max_recovery_attempts: int = MAX_RECOVERY_ATTEMPTS,
    ) -> None:
        config = DBOSConfig(
            name=APPLICATION_NAME,
            system_database_url=url,
            application_version=APPLICATION_VERSION,
            executor_id=executor_id,
            log_level="CRITICAL",  # its messages can quote arguments; ours are in the stages
        )
        DBOS(config=config)
        #: set when a checkpoint could not be written: only a fresh process takes such a job up
        self.lost_a_job = threading.Event()
        for name, kind in kinds.items():
            _register(name, kind, self.lost_a_job, max_recovery_attempts)
        DBOS.listen_queues(list(kinds))
        DBOS.launch()
        for name, kind in kinds.items():
            DBOS.register_queue(
                name,
                worker_concurrency=kind.at_once,
                partition_concurrency=1 if kind.partitioned else None,
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )

    def close(self, *, timeout_s: float) -> None:
        """Let running stages end, at most `timeout_s`; what is left goes on at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=int(timeout_s), destroy_registry=True)


class Dispatcher:
    """Hands jobs out; any process may, none is needed to run them.

    Parameters
    ----------
    url : str
        The same database as the worker's; the worker must have made it.
    """

    def __init__(self, url: str) -> None:
        self._client = DBOSClient(system_database_url=url)

    def close(self) -> None:
        """Close the database."""
        self._client.destroy()

    def enqueue(
        self, kind: str, job_id: str, arguments: Sequence[str], *, partition: str | None = None
    ) -> None:
        """Hand out a job; an id that is known already changes nothing."""
        options = {
            "queue_name": kind,
            "workflow_name": kind,
            "workflow_id": job_id,
            "app_version": APPLICATION_VERSION,
        }
        if partition is not None:
            options["queue_partition_key"] = partition
        with _database_errors():
            self._client.enqueue(options, list(arguments))  # type: ignore[arg-type]

    def knows(self, job_id: str) -> bool:
        """Whether a job of this id was handed out before, whatever became of it."""
        with _database_errors():
            return bool(
                self._client.list_workflows(
                    workflow_ids=[job_id], load_input=False, load_output=False
                )
            )

    def find(self, job_id: str) -> JobRow | None:
        """Return the job of this id, None when it was not handed out."""
        with _database_errors():
            found = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        return next((_to_job(row) for row in found), None)

    def unfinished(self, limit: int | None = None) -> list[JobRow]:
        """Return jobs that wait or run, at most `limit`."""
        return self._rows(["ENQUEUED", "PENDING", "DELAYED"], limit)

    def failed(self, limit: int | None = None) -> list[JobRow]:
        """Return jobs that ended with an error or were parked as poison, at most `limit`."""
        return self._rows(["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"], limit)

    def retry(self, job: JobRow) -> None:
        """Run a failed job again from its first stage; the failed row goes."""
        self._client.fork_workflow(job.job_id, 1, queue_name=job.kind)
        self._client.delete_workflow(job.job_id)

    def _rows(self, status: list[str], limit: int | None) -> list[JobRow]:
        with _database_errors():
            found = self._client.list_workflows(status=status, load_input=False, limit=limit)
        return [_to_job(row) for row in found]


def _to_job(row: WorkflowStatus) -> JobRow:
    return JobRow(
        job_id=row.workflow_id,
        kind=row.name,
        status=row.status,
        error=type(row.error).__name__ if row.error else "",
    )


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as exc:
        raise DatabaseDownError(
            f"the jobs' database cannot be used now ({type(exc.orig).__name__}): free disk "
            "space under node.data, or see to the server of database:"
        ) from None


def _register(
    name: str, kind: Kind, lost_a_job: threading.Event, max_recovery_attempts: int
) -> None:
    steps = [
        DBOS.step(
            name=f"{name}.{stage_name}",
            retries_allowed=True,
            interval_seconds=5.0,
            max_attempts=6,  # 5 + 10 + 20 + 40 + 80 s: a full disk may be emptied meanwhile
            should_retry=_is_temporary,
        )(stage)
        for stage_name, stage in kind.stages
    ]

    def chain(arguments: Sequence[str]) -> list[dict[str, int]]:
        try:
            return [step(arguments) for step in steps]
        except Exception as exc:
            # its message may quote a data set: the log gets the kind and the place
            cause, where = type(exc).__name__, log.place_of(exc)
            log.get("jobs").error("job failed", what=name, cause=cause, where=where)
            if isinstance(exc, sa.exc.OperationalError):
                lost_a_job.set()
            raise

    DBOS.workflow(name=name, max_recovery_attempts=max_recovery_attempts)(chain)


def _is_temporary(error: BaseException) -> bool:
    return isinstance(error, TemporaryError | OSError)

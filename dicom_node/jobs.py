"""Durable jobs: the one module that knows DBOS Transact.

A job is a named chain of stages. Each finished stage is a checkpoint: after kill -9 a job goes on
with the stage that was running. Stages run at least once, so every stage is idempotent. A job's id
is derived from what it is about, so handing the same job out twice runs it once.

Nodes that share a PostgreSQL server each have their own application in it, in DBOS's sense, and
their own queues: a node runs its own jobs only, as it alone has the images.
"""

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig
from dbos import error as dbos_error

from dicom_node import log
from dicom_node.config import FIRST_NODE
from dicom_node.errors import (
    DatabaseDownError,
    JobCancelledError,
    ModelServerDownError,
    TemporaryError,
)

#: Rows of another version would be stranded by an upgrade: it moves only with incompatible stages.
APPLICATION_VERSION = "1"
APPLICATION_NAME = "dicom-node"
#: A job that was begun again so often, each time after its process was killed, is poison and stays
#: parked. Kills from outside may hit an innocent job each time, which then needs a person: hence so
#: many. With the pauses before a child is started again, poison disturbs the worker ten minutes.
MAX_RECOVERY_ATTEMPTS = 20
POLL_S = 0.25
#: DBOS's states, by what they mean for a person.
_UNFINISHED = ("ENQUEUED", "PENDING", "DELAYED")
_POISON = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
_FAILED = ("ERROR", _POISON)
_CANCELLED = "CANCELLED"

Stage = Callable[[Sequence[str]], dict[str, int]]
_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")


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
    #: what it waits in line with, None where its kind has one line
    partition: str | None = None

    def is_about(self, study_instance_uid: str) -> bool:
        """Whether the job is about a study; its id names it."""
        return f":{study_instance_uid}:" in self.job_id

    @property
    def is_put_off(self) -> bool:
        """Whether it ended because a model server gave no answer, and goes on by itself."""
        return self.error == ModelServerDownError.__name__

    @property
    def cure(self) -> str:
        """What a person does about a job that is not worked on any more."""
        again = f"dicom-node queue retry {self.job_id}"
        if self.status == _POISON:
            return (
                "its process was killed again and again in the middle of it: look in the log and "
                f"in the system's for what did it (memory?), mend it, then {again}"
            )
        if self.status == _CANCELLED:
            return (
                "cancelled by hand, or by a node that took the study over; "
                f"{again} runs it from its first stage"
            )
        if self.is_put_off:
            return (
                "its model server gave no answer: 'dicom-node check' says why; it goes on by "
                "itself when there is one"
            )
        if self.error:
            return f"mend what the line 'job failed' of the log names, then {again}"
        return ""


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What DBOS calls the jobs of one node."""

    application: str
    #: added to each queue
    suffix: str

    def queue(self, kind: str) -> str:
        return f"{kind}{self.suffix}"

    @property
    def version(self) -> str:
        return f"{APPLICATION_VERSION}{self.suffix}"


def _names_of(node: str, url: str) -> _Names:
    # a SQLite file has one node, whatever its name; and the first keeps the names it always had
    suffix = "" if node == FIRST_NODE or url.startswith("sqlite") else f"-{node}"
    return _Names(application=f"{APPLICATION_NAME}{suffix}", suffix=suffix)


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
        The node's name, stable over restarts: a process takes up the unfinished jobs of its own.
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
        names = _names_of(executor_id, url)
        config = DBOSConfig(
            name=names.application,
            system_database_url=url,
            application_version=names.version,
            executor_id=executor_id,
            log_level="CRITICAL",  # its messages can quote arguments; ours are in the stages
        )
        DBOS(config=config)
        #: set when a checkpoint could not be written: only a fresh process takes such a job up
        self.lost_a_job = threading.Event()
        for name, kind in kinds.items():
            _register(name, kind, self.lost_a_job, max_recovery_attempts)
        DBOS.listen_queues([names.queue(kind) for kind in kinds])
        DBOS.launch()
        for name, kind in kinds.items():
            DBOS.register_queue(
                names.queue(name),
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
    node : str, optional
        Whose jobs they are: the worker's `executor_id`.
    """

    def __init__(self, url: str, node: str = FIRST_NODE) -> None:
        self._url = url
        self._names = _names_of(node, url)
        self._client = DBOSClient(system_database_url=url, application_name=self._names.application)

    def close(self) -> None:
        """Close the database."""
        self._client.destroy()

    def enqueue(
        self, kind: str, job_id: str, arguments: Sequence[str], *, partition: str | None = None
    ) -> None:
        """Hand out a job; an id that is known already changes nothing."""
        options = {
            "queue_name": self._names.queue(kind),
            "workflow_name": kind,
            "workflow_id": self._id(job_id),
            "app_version": self._names.version,
        }
        if partition is not None:
            options["queue_partition_key"] = partition
        with _database_errors():
            self._client.enqueue(options, list(arguments))  # type: ignore[arg-type]

    def knows(self, job_id: str) -> bool:
        """Whether a job of this id was handed out before, whatever became of it."""
        return self.find(job_id) is not None

    def find(self, job_id: str) -> JobRow | None:
        """Return a job of this node, None when there is none of this id."""
        found = self._rows(self._names, workflow_ids=[self._id(job_id)])
        return found[0] if found else None

    def unfinished(self, limit: int | None = None) -> list[JobRow]:
        """Return jobs that wait or run, at most `limit`."""
        return self._rows(self._names, status=list(_UNFINISHED), limit=limit)

    def failed(self, limit: int | None = None) -> list[JobRow]:
        """Return jobs that ended with an error or were parked as poison, at most `limit`."""
        return self._rows(self._names, status=list(_FAILED), limit=limit)

    def cancelled(self, limit: int | None = None) -> list[JobRow]:
        """Return jobs that were cancelled, at most `limit`."""
        return self._rows(self._names, status=[_CANCELLED], limit=limit)

    def unfinished_of(self, node: str, limit: int | None = None) -> list[JobRow]:
        """Return jobs of another node in the same database that wait or run, at most `limit`."""
        names = _names_of(node, self._url)
        return self._rows(names, status=list(_UNFINISHED), limit=limit)

    def cancel(self, job: JobRow) -> None:
        """Let a job that waits never start, and one that runs stop before its next step."""
        with _database_errors():
            self._client.cancel_workflow(job.job_id)

    def retry(self, job: JobRow) -> None:
        """Run a job that failed or was cancelled again from its first stage."""
        with _database_errors():
            self._client.rewind_workflow(
                job.job_id,
                application_version=self._names.version,
                queue_name=self._names.queue(job.kind),
                queue_partition_key=job.partition,
            )

    def _id(self, job_id: str) -> str:
        """Name a job among those of all nodes; one that has its full name keeps it."""
        mark = self._names.suffix and f"@{self._names.suffix[1:]}"
        return job_id if job_id.endswith(mark) else f"{job_id}{mark}"

    def _rows(self, names: _Names, **which: Any) -> list[JobRow]:
        with _database_errors():
            found = self._client.list_workflows(
                application_name=names.application, load_input=False, **which
            )
        return [
            JobRow(
                job_id=row.workflow_id,
                kind=row.name,
                status=row.status,
                error=type(row.error).__name__ if row.error else "",
                partition=row.queue_partition_key,
            )
            for row in found
            if names == self._names or row.application_name == names.application
        ]


def stop_if_cancelled() -> None:
    """End the stage that calls this, when its job was cancelled; for between two images.

    Raises
    ------
    JobCancelledError
    """
    job_id = DBOS.workflow_id
    if job_id is None:  # no job runs it
        return
    status = DBOS.get_workflow_status(job_id)
    if status is not None and status.status == _CANCELLED:
        raise JobCancelledError("the job was cancelled; dicom-node queue retry runs it again")


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except dbos_error.DBOSException as exc:
        cause = type(exc).__name__
        raise TemporaryError(f"the job changed meanwhile ({cause}); try again") from None
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
        except JobCancelledError:
            log.get("jobs").info("job cancelled", what=name)
            raise
        except ModelServerDownError as exc:
            log.get("jobs").warning("job put off", what=name, reason=str(exc))
            raise
        except Exception as exc:
            # its message may quote a data set: the log gets the kind and the place
            cause, where = type(exc).__name__, log.place_of(exc)
            log.get("jobs").error("job failed", what=name, cause=cause, where=where)
            if isinstance(exc, sa.exc.OperationalError):
                lost_a_job.set()
            raise

    run = in_turns(chain, kind.at_once)
    DBOS.workflow(name=name, max_recovery_attempts=max_recovery_attempts)(run)


def in_turns(run: Callable[_Arguments, _Found], at_once: int) -> Callable[_Arguments, _Found]:
    """Let no more than `at_once` threads into a function; others wait.

    On a machine under load DBOS was seen to begin a second job of a queue with a concurrency of 1,
    and two jobs with one decoder are given each other's pictures.
    """
    turns = threading.BoundedSemaphore(at_once)

    @functools.wraps(run)
    def alone(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Found:
        with turns:
            return run(*arguments, **named)

    return alone


def _is_temporary(error: BaseException) -> bool:
    # to wait for a model server here would hold up what needs none; the node hands it out again
    return isinstance(error, TemporaryError | OSError) and not isinstance(
        error, ModelServerDownError
    )

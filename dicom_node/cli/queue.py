"""``dicom-node queue``: what is owed to destinations, and what failed."""

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from dicom_node.cli.fellows import other_nodes
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError, PermanentError
from dicom_node.jobs import Dispatcher, JobRow, database_url
from dicom_node.node.layout import Layout
from dicom_node.outbox import UNSETTLED, DeliveryRow, DeliveryState, Outbox

app = typer.Typer(
    help="Deliveries that wait or failed, and jobs that run, failed or were cancelled.\n\n"
    "Example: dicom-node queue list --config node.yaml",
    add_completion=False,
)

#: How many jobs the screen shows of each kind.
MOST_JOBS = 100
#: What DBOS calls a state, and what a person reads.
_STATES = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "parked",
    "CANCELLED": "cancelled",
}

OneJob = Annotated[str, typer.Argument(help="As 'queue list' names it.")]
AnyJob = Annotated[str | None, typer.Argument(help="Only this job, as 'queue list' names it.")]
OnlyTo = Annotated[str | None, typer.Option("--destination", "-d", help="Only this destination.")]


@app.command("list")
def show(
    config: ConfigFile = DEFAULT_CONFIG,
    everything: Annotated[bool, typer.Option("--all", help="Delivered objects too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is owed, the latest change first.

    Example: dicom-node queue list --config node.yaml
    """
    states = () if everything else (*UNSETTLED, DeliveryState.DEAD)
    settings = load(config)
    outbox, jobs = open_outbox(settings), open_jobs(settings)
    rows = [_record(row) for row in outbox.rows(*states)]
    failed = [_stopped(job) for job in jobs.failed()]
    cancelled = [_stopped(job) for job in jobs.cancelled(MOST_JOBS)]
    running = [{"job": job.job_id, "state": _state(job)} for job in jobs.unfinished(MOST_JOBS)]
    others = other_nodes(settings, jobs)
    jobs.close()
    outbox.close()
    if as_json:
        print_json(
            {
                "deliveries": rows,
                "failed_jobs": failed,
                "cancelled_jobs": cancelled,
                "unfinished_jobs": running,
                "other_nodes": others,
            }
        )
        return
    for node in others:
        typer.echo(node["line"])
    print_table(
        "Deliveries",
        ["state", "destination", "kind", "study", "attempts", "due", "status", "reason"],
        [[str(value) for value in row.values()][:8] for row in rows],
        empty="nothing is owed",
    )
    if running:
        print_table("Jobs", ["job", "state"], [list(row.values()) for row in running], empty="")
    if failed or cancelled:
        print_table(
            "Failed and cancelled jobs",
            ["job", "state", "error", "what to do"],
            [list(row.values()) for row in failed + cancelled],
            empty="",
        )


@app.command()
def retry(
    job: AnyJob = None, config: ConfigFile = DEFAULT_CONFIG, destination: OnlyTo = None
) -> None:
    """Try dead letters and waiting deliveries now, and failed studies again; or only one job.

    What is stored and not committed to is not sent again: its commitment is asked for again.

    Example: dicom-node queue retry --destination pacs
    """
    settings = load(config)
    if job is not None:
        with closing(open_jobs(settings)) as jobs:
            found = _one(jobs, job)
            if found not in (*jobs.failed(), *jobs.cancelled()):
                raise PermanentError(f"{job!r} neither failed nor was cancelled: {_state(found)}")
            jobs.retry(found)
        typer.echo("it runs again")
        return
    outbox = open_outbox(settings)
    count = outbox.retry(now=datetime.now(UTC), destination=destination)
    outbox.close()
    studies = 0
    if destination is None:
        with closing(open_jobs(settings)) as jobs:
            for failed in jobs.failed():
                jobs.retry(failed)
                studies += 1
    typer.echo(f"{count} deliveries are due now, {studies} failed studies run again")


@app.command()
def cancel(job: OneJob, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Stop a job: one that runs ends at its next image or stage, one that waits never starts.

    Example: dicom-node queue cancel study:1.2.3:1:1767225600.000000
    """
    with closing(open_jobs(load(config))) as jobs:
        found = _one(jobs, job)
        if found not in jobs.unfinished():
            raise PermanentError(f"{job!r} neither waits nor runs: it is {_state(found)}")
        jobs.cancel(found)
    typer.echo(f"cancelled; dicom-node queue retry {found.job_id} runs it from its first stage")


@app.command()
def drop(config: ConfigFile = DEFAULT_CONFIG, destination: OnlyTo = None) -> None:
    """Forget dead letters; their objects stay in the results folder.

    Example: dicom-node queue drop --destination old-pacs
    """
    outbox = open_outbox(load(config))
    count = outbox.drop(destination=destination)
    outbox.close()
    typer.echo(f"{count} dead letters dropped")


def open_outbox(config: Config) -> Outbox:
    """Open the outbox of a node that has run before.

    Raises
    ------
    ConfigError
        When the node never ran with this configuration.
    """
    layout = Layout(config.node.data)
    _must_exist(layout)
    return Outbox(layout.outbox, layout.results)


def open_jobs(config: Config) -> Dispatcher:
    """Open the jobs of a node that has run before.

    Raises
    ------
    ConfigError
        When the node never ran with this configuration.
    """
    layout = Layout(config.node.data)
    _must_exist(layout)
    return Dispatcher(database_url(layout.jobs, config.database), config.node.name)


def _one(jobs: Dispatcher, job_id: str) -> JobRow:
    found = jobs.find(job_id)
    if found is None:
        raise PermanentError(f"no job {job_id!r}; dicom-node queue list names them")
    return found


def _state(job: JobRow) -> str:
    if job.is_put_off:
        return "put off"
    return _STATES.get(job.status, job.status.lower())


def _stopped(job: JobRow) -> dict[str, str]:
    return {"job": job.job_id, "state": _state(job), "error": job.error, "cure": job.cure}


def _must_exist(layout: Layout) -> None:
    if not layout.outbox.exists():
        raise ConfigError(
            f"node.data: no node ran in {layout.data} yet; start it with 'dicom-node serve'"
        )


def _record(row: DeliveryRow) -> dict[str, object]:
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

"""``dicom-node queue``: what is owed to destinations, and what failed."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.jobs import Dispatcher, database_url
from dicom_node.node.layout import Layout
from dicom_node.outbox import DeliveryRow, DeliveryState, Outbox

app = typer.Typer(
    help="Deliveries that wait or failed, and studies whose jobs failed.\n\n"
    "Example: dicom-node queue list --config node.yaml",
    add_completion=False,
)

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
    states = () if everything else (DeliveryState.WAITING, DeliveryState.DEAD)
    settings = load(config)
    outbox, jobs = open_outbox(settings), open_jobs(settings)
    rows = [_record(row) for row in outbox.rows(*states)]
    failed = [{"job": job.job_id, "error": job.error} for job in jobs.failed()]
    jobs.close()
    outbox.close()
    if as_json:
        print_json({"deliveries": rows, "failed_jobs": failed})
        return
    print_table(
        "Deliveries",
        ["state", "destination", "kind", "study", "attempts", "due", "status", "reason"],
        [[str(value) for value in row.values()][:8] for row in rows],
        empty="nothing is owed",
    )
    if failed:
        print_table(
            "Failed jobs", ["job", "error"], [list(row.values()) for row in failed], empty=""
        )


@app.command()
def retry(config: ConfigFile = DEFAULT_CONFIG, destination: OnlyTo = None) -> None:
    """Try dead letters and waiting deliveries now, and failed studies again.

    Example: dicom-node queue retry --destination pacs
    """
    settings = load(config)
    outbox = open_outbox(settings)
    count = outbox.retry(now=datetime.now(UTC), destination=destination)
    outbox.close()
    studies = 0
    if destination is None:
        jobs = open_jobs(settings)
        for job in jobs.failed():
            jobs.retry(job)
            studies += 1
        jobs.close()
    typer.echo(f"{count} deliveries are due now, {studies} failed studies run again")


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
    return Dispatcher(database_url(layout.jobs, config.database))


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
        "due_at": row.due_at.isoformat(timespec="seconds") if row.state == "waiting" else "",
        "status": "" if row.status is None else f"0x{row.status:04X}",
        "reason": row.reason,
        "sop_instance_uid": row.sop_instance_uid,
        "changed_at": row.changed_at.isoformat(timespec="seconds"),
        "version": row.version,
        "supersedes": row.supersedes or "",
    }

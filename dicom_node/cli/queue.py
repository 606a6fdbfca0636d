"""``dicom-node queue``: what is owed to destinations, and what failed."""

from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from dicom_node.books.fellows import other_nodes
from dicom_node.books.opened import open_jobs, open_outbox
from dicom_node.books.queue import OWED, cancel_job, collect, retry_job
from dicom_node.cli import queue_screen
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json

app = typer.Typer(
    help="Deliveries that wait or failed, and jobs that run, failed or were cancelled.\n\n"
    "Example: dicom-node queue list --config node.yaml",
    add_completion=False,
)

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
    settings = load(config)
    with closing(open_outbox(settings)) as outbox, closing(open_jobs(settings)) as jobs:
        found = collect(outbox, jobs, () if everything else OWED)
        others = other_nodes(settings, jobs)
    if as_json:
        print_json({**found, "other_nodes": others})
        return
    queue_screen.show(found, others)


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
            retry_job(jobs, job)
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
        found = cancel_job(jobs, job)
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

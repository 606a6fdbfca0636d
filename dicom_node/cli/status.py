"""``dicom-node status``: what was received, what became of it, what is owed."""

import json
from contextlib import closing
from typing import Annotated, Any

import typer

from dicom_node.cli.fellows import other_nodes
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.cli.queue import open_jobs, open_outbox
from dicom_node.config import Config
from dicom_node.errors import PermanentError
from dicom_node.index import CommitmentState, Index
from dicom_node.node.layout import Layout, open_inbox

#: How many studies the screen shows.
LATEST = 20

app = typer.Typer(add_completion=False)


OneStudy = Annotated[
    str | None,
    typer.Option("--study", metavar="UID", help="Only this study, and all that is known of it."),
]


@app.command()
def status(
    config: ConfigFile = DEFAULT_CONFIG, study: OneStudy = None, as_json: AsJson = False
) -> None:
    """Show counts and the latest studies, or when and why one study was complete.

    Example: dicom-node status --config node.yaml --json
    """
    if study is not None:
        _show_study(_collect_study(load(config), study), as_json)
        return
    found = _collect(load(config))
    if as_json:
        print_json(found)
        return
    for node in found["other_nodes"]:
        typer.echo(node["line"])
    counts = [[key.replace("_", " "), str(value)] for key, value in found["counts"].items()]
    print_table("Counts", ["what", "count"], counts, empty="")
    print_table(
        "Failed jobs",
        ["job", "error", "what to do"],
        [list(row.values()) for row in found["failed_jobs"]],
        empty="no job failed",
    )
    print_table(
        "Quarantine",
        ["file", "reason"],
        [[row["file"], row["reason"]] for row in found["quarantine"]],
        empty="nothing is in quarantine",
    )
    print_table(
        "Storage commitment",
        ["asked by", "instances", "state", "attempts", "why"],
        [[str(value) for value in row.values()] for row in found["commitments"]],
        empty="no report is owed",
    )
    print_table(
        "Latest studies",
        ["study", "instances", "state", "revision", "why"],
        [[str(value) for value in study.values()] for study in found["studies"]],
        empty="no study yet",
    )


def _collect(config: Config) -> dict[str, Any]:
    layout = Layout(config.node.data)
    outbox, jobs = open_outbox(config), open_jobs(config)
    index, inbox = Index(layout.index), open_inbox(config)
    failed = jobs.failed()
    found = {
        "counts": {
            **index.counts(),
            "quarantined": len(inbox.quarantined_ids()),
            "waiting_to_be_registered": len(inbox.waiting()),
            "jobs_unfinished": len(jobs.unfinished()),
            "jobs_failed": len(failed),
            "jobs_cancelled": len(jobs.cancelled()),
            **{f"deliveries_{state.value}": n for state, n in outbox.counts().items()},
            **{
                f"commitments_{state.value.replace(' ', '_')}": n
                for state, n in index.commitments.counts().items()
            },
        },
        # the latest; the files lie in inbox/quarantine under the data folder
        "quarantine": [
            {"file": f"{file_id}.dcm", "reason": reason}
            for file_id, reason in inbox.quarantined(LATEST)
        ],
        # what is owed a report, or was for a day and got none
        "commitments": [
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
        ],
        # those that share this node's database
        "other_nodes": other_nodes(config, jobs),
        "failed_jobs": [
            {"job": job.job_id, "error": job.error, "cure": job.cure} for job in failed
        ],
        "studies": [
            {
                "study_instance_uid": row.study_instance_uid,
                "instances": row.instances,
                "state": row.state.value,
                "revision": row.revision,
                "reason": row.reason,
            }
            for row in index.studies(LATEST)
        ],
    }
    index.close()
    jobs.close()
    outbox.close()
    return found


def _show_study(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    facts = [[key.replace("_", " "), str(value)] for key, value in found["study"].items()]
    print_table("Study", ["what", "value"], facts, empty="")
    print_table(
        "Completions",
        ["revision", "at", "why", "on what evidence"],
        [
            [str(row["revision"]), row["at"], row["reason"], json.dumps(row["evidence"])]
            for row in found["completions"]
        ],
        empty="it was not complete yet",
    )
    print_table(
        "Results",
        ["kind", "version", "destination", "state", "why"],
        [[str(value) for value in row.values()][:5] for row in found["results"]],
        empty="no result of it is owed or was delivered",
    )


def _collect_study(config: Config, uid: str) -> dict[str, Any]:
    with (
        closing(open_outbox(config)) as outbox,
        closing(Index(Layout(config.node.data).index)) as index,
    ):
        row = index.study(uid)
        if row is None:
            raise PermanentError(
                f"no study {uid!r} is registered; dicom-node status names the latest"
            )
        return {
            "study": {
                "study_instance_uid": uid,
                "state": row.state.value,
                "revision": row.revision,
                "worked_on_to_revision": row.finished,
                "instances": row.instances,
                "first_received": row.first_received_at.isoformat(timespec="seconds"),
                "last_received": row.last_received_at.isoformat(timespec="seconds"),
            },
            "completions": [
                {
                    "revision": completion.revision,
                    "at": completion.completed_at.isoformat(timespec="seconds"),
                    "reason": completion.reason,
                    "evidence": completion.evidence,
                }
                for completion in index.completions(uid)
            ],
            "results": [
                {
                    "kind": delivery.kind.value,
                    "version": delivery.version,
                    "destination": delivery.destination,
                    "state": delivery.state.value,
                    "reason": delivery.reason,
                    "changed_at": delivery.changed_at.isoformat(timespec="seconds"),
                    "sop_instance_uid": delivery.sop_instance_uid,
                    "supersedes": delivery.supersedes or "",
                }
                for delivery in outbox.rows(study=uid)
            ],
        }

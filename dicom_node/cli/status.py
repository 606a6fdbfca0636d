"""``dicom-node status``: what was received, what became of it, what is owed."""

from typing import Any

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.cli.queue import open_jobs, open_outbox
from dicom_node.config import Config
from dicom_node.index import CommitmentState, Index
from dicom_node.node.layout import Layout, open_inbox

#: How many studies the screen shows.
LATEST = 20

app = typer.Typer(add_completion=False)


@app.command()
def status(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show counts and the latest studies.

    Example: dicom-node status --config node.yaml --json
    """
    found = _collect(load(config))
    if as_json:
        print_json(found)
        return
    counts = [[key.replace("_", " "), str(value)] for key, value in found["counts"].items()]
    print_table("Counts", ["what", "count"], counts, empty="")
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
        "failed_jobs": [{"job": job.job_id, "error": job.error} for job in failed],
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

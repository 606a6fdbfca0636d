import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.jobs import Dispatcher, Worker, database_url
from dicom_node.outbox import Outbox

JOB = "study:1.2.3:1:1767225600.000000"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Dispatcher]:
    """Return the jobs of a node that is stopped: one waits."""
    (tmp_path / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    data = tmp_path / "data"
    data.mkdir()
    Outbox(data / "outbox.db", data).close()
    url = database_url(data / "jobs.db", None)
    Worker(url, {}, executor_id="node-0").close(timeout_s=1)
    dispatcher = Dispatcher(url)
    dispatcher.enqueue("study", JOB, ["1.2.3", "1"])
    yield dispatcher
    dispatcher.close()


def queue(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "queue", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_job_is_cancelled_listed_with_what_to_do_and_run_again(
    jobs: Dispatcher, tmp_path: Path
) -> None:
    assert json.loads(queue(tmp_path, "list", "--json").stdout)["unfinished_jobs"] == [
        {"job": JOB, "state": "waiting"}
    ]
    assert f"dicom-node queue retry {JOB}" in queue(tmp_path, "cancel", JOB).stdout
    [cancelled] = json.loads(queue(tmp_path, "list", "--json").stdout)["cancelled_jobs"]
    assert (cancelled["job"], cancelled["state"]) == (JOB, "cancelled")
    assert f"dicom-node queue retry {JOB}" in cancelled["cure"]
    assert "0 failed studies run again" in queue(tmp_path, "retry").stdout
    assert jobs.unfinished() == [], "what a person cancelled only a person's word revives"
    assert queue(tmp_path, "retry", JOB).stdout == "it runs again\n"
    assert [job.job_id for job in jobs.unfinished()] == [JOB]


def test_what_cannot_be_cancelled_or_retried_is_said(jobs: Dispatcher, tmp_path: Path) -> None:
    assert "no job 'nonsense'" in queue(tmp_path, "cancel", "nonsense").stderr
    assert "neither failed nor was cancelled: waiting" in queue(tmp_path, "retry", JOB).stderr
    queue(tmp_path, "cancel", JOB)
    refused = queue(tmp_path, "cancel", JOB)
    assert refused.returncode != 0
    assert "it is cancelled" in refused.stderr
    assert [job.job_id for job in jobs.cancelled()] == [JOB]

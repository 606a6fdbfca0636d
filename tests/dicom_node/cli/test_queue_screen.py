from typing import Any

import pytest

from dicom_node.cli.queue_screen import show

STUDY = "1.2.826.0.1.3680043.8.498.77763053100748749314749313114386993667546"
JOB = f"study:{STUDY}:1:1767225600.000000"
NOTHING: dict[str, Any] = {
    "deliveries": [],
    "unfinished_jobs": [],
    "failed_jobs": [],
    "cancelled_jobs": [],
}


def delivery(kind: str, **other: object) -> dict[str, object]:
    down = {"destination": "pacs", "state": "waiting", "status": "", "reason": "no connection"}
    row = {"study_instance_uid": STUDY, "attempts": 1, "due_at": "2026-01-01T10:20:30+00:00"}
    return {"kind": kind, **down, **row, **other}


def test_what_one_cure_mends_stands_together_a_line_for_each_study(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {"status": "0xA700", "reason": "out of resources", "attempts": 2}
    rows = [
        delivery("sr"),
        delivery("seg"),
        delivery("sr", study_instance_uid="1.2.3", **refused),
        delivery("sr"),
        delivery("sr", destination="other", state="dead", reason="", due_at=""),
    ]
    show(NOTHING | {"deliveries": rows}, [])
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    assert lines[:8] == [
        "pacs: waiting, no connection",
        "study what attempts due",
        f"...{STUDY[-24:]} 1 SEG, 2 SRs 1 2026-01-01 10:20:30",
        "pacs: waiting, answer 0xA700: out of resources",
        "study what attempts due",
        "1.2.3 1 SR 2 2026-01-01 10:20:30",
        "other: dead",
        "study what attempts due",
    ]
    assert max(map(len, printed.splitlines())) <= 80


def test_the_name_of_a_job_and_what_to_do_are_not_broken_in_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = {"job": JOB, "state": "failed", "error": "ValueError", "cure": "mend it " * 20}
    jobs = {"unfinished_jobs": [{"job": JOB, "state": "running"}], "failed_jobs": [stopped]}
    show(NOTHING | jobs, [{"line": "node-1 is dead"}])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "node-1 is dead",
        "nothing is owed",
        "Jobs",
        f"  running  {JOB}",
        "Failed and cancelled jobs",
        f"  failed (ValueError)  {JOB}",
        f"    -> {stopped['cure']}",
    ]

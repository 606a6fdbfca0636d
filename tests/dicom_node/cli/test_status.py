import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.index import Arrival, Index
from dicom_node.outbox import Outbox
from dicom_node.records import Instance, Result, ResultKind

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STUDY = "1.2.3"


def instance(number: int) -> Instance:
    return Instance(
        sop_instance_uid=f"1.5.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        series_instance_uid="1.2.3.1",
        study_instance_uid=STUDY,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_id=f"{number:024x}",
        path=Path(f"{number:024x}.dcm"),
        sha256=f"{number:064x}",
        size_bytes=100,
        received_at=NOON + timedelta(minutes=number),
    )


def result(study: str, version: int) -> Result:
    return Result(
        kind=ResultKind.SR,
        sop_instance_uid=f"{study}.9.{version}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid=study,
        source_sop_instance_uid=f"{study}.5",
        path=Path(f"{study}.9.{version}.dcm"),
        series_instance_uid=f"{study}.8",
        version=version,
        supersedes=f"{study}.9.{version - 1}" if version > 1 else None,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return where a node ran: one study was complete twice, and answered twice."""
    (tmp_path / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    data = tmp_path / "data"
    data.mkdir()
    with closing(Index(data / "index.db")) as index:
        for number, reason in ((1, "nothing came for 30 s"), (2, "PACS counts 2 instances")):
            index.register([Arrival(instance=instance(number), patient_id="SECRET^ID")])
            now = NOON + timedelta(minutes=number, seconds=30)
            index.complete(STUDY, reason=reason, evidence={"instances": number}, now=now)
    with closing(Outbox(data / "outbox.db", data)) as outbox:
        for study, version in ((STUDY, 1), (STUDY, 2), ("4.5", 1)):
            made = result(study, version)
            now = NOON + timedelta(minutes=version, seconds=40)
            outbox.add([made], [(made, "pacs")], analysed=f"{study}.5", models="m", now=now)
    return tmp_path


def status(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "status", *arguments]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, check=False)


def test_one_study_is_shown_with_every_completion_and_what_became_of_its_results(
    site: Path,
) -> None:
    found = json.loads(status(site, "--study", STUDY, "--json").stdout)
    assert (found["study"]["state"], found["study"]["revision"]) == ("complete", 2)
    assert [(row["revision"], row["reason"]) for row in found["completions"]] == [
        (1, "nothing came for 30 s"),
        (2, "PACS counts 2 instances"),
    ]
    assert [row["evidence"]["instances"] for row in found["completions"]] == [1, 2]
    assert found["completions"][0]["at"] == "2026-01-01T12:01:30+00:00"
    assert {(row["sop_instance_uid"], row["state"]) for row in found["results"]} == {
        ("1.2.3.9.1", "withdrawn"),
        ("1.2.3.9.2", "waiting"),
    }


def test_one_study_is_shown_to_a_reader_without_the_patient(site: Path) -> None:
    shown = status(site, "--study", STUDY).stdout
    for said in ("Completions", "Results", "withdrawn"):
        assert said in shown
    assert "SECRET" not in shown


def test_a_study_that_never_came_is_named_with_the_cure(site: Path) -> None:
    found = status(site, "--study", "9.9")
    assert found.returncode == 1
    assert "no study '9.9' is registered" in found.stderr
    assert "Traceback" not in found.stderr


def test_what_a_model_in_the_shadow_said_is_counted_and_named_and_owed_to_nobody(
    site: Path,
) -> None:
    kept = replace(result(STUDY, 1), sop_instance_uid="1.2.3.9.7", path=Path("1.2.3.9.7.dcm"))
    with closing(Outbox(site / "data" / "outbox.db", site / "data")) as outbox:
        owed = outbox.rows()
        outbox.add_shadow([kept], analysed=f"{STUDY}.5", models="m", now=NOON)
        assert outbox.rows() == owed
        assert outbox.next_edition(f"{STUDY}.5", study_revision=1).version == 3
        assert outbox.next_edition(f"{STUDY}.5", study_revision=1, shadow=True).version == 2
    found = json.loads(status(site, "--study", STUDY, "--json").stdout)
    assert found["shadow"] == [{"kind": "sr", "version": 1, "file": "1.2.3.9.7.dcm"}]
    assert "1.2.3.9.7.dcm" in status(site, "--study", STUDY).stdout

"""What a person is told of results that are stored and not committed to."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node import config
from dicom_node.books import overview, study
from dicom_node.cli import overview as overview_screen
from dicom_node.cli import study_screen
from dicom_node.cli.destinations import destinations
from dicom_node.cli.queue import app
from dicom_node.config import Caller, Config, NodeSettings
from dicom_node.index import Arrival, Index
from dicom_node.jobs import Kind, Worker, database_url
from dicom_node.outbox import Outbox
from dicom_node.records import Instance, Result, ResultKind
from dicom_node.sop_classes import RESULTS
from tests.support.committing import archive

STUDY = "1.2.840.1.7001"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return where a node ran that has one study, whose report is stored."""
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    kinds = {"study": Kind(stages=(), at_once=1)}
    Worker(database_url(data / "jobs.db", None), kinds, executor_id="node-0").close(timeout_s=0)
    image = Instance(
        sop_instance_uid="1.5.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        series_instance_uid="1.3",
        study_instance_uid=STUDY,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_id=f"{1:024x}",
        path=data / "1.dcm",
        sha256="0" * 64,
        size_bytes=1,
        received_at=now(),
    )
    made = Result(
        kind=ResultKind.SR,
        sop_instance_uid="1.9.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_instance_uid=STUDY,
        source_sop_instance_uid="1.5.1",
        path=Path("1.9.1.dcm"),
    )
    with closing(Index(data / "index.db")) as index:
        index.register([Arrival(instance=image, patient_id="")])
        index.complete(STUDY, reason="quiet", evidence={}, now=now())
        index.finish(STUDY, 1)
    with outbox_of(tmp_path) as outbox:
        outbox.add([made], [(made, "pacs")], analysed="1.5.1", models="m", now=now())
        outbox.promises.stored("1.9.1", "pacs", status=0, now=now())
    return tmp_path


def now() -> datetime:
    return datetime.now(UTC)


def outbox_of(site: Path) -> closing[Outbox]:
    return closing(Outbox(site / "data" / "outbox.db", site / "data"))


@pytest.fixture
def settings(site: Path) -> Iterator[Config]:
    yield config.load(site / "node.yaml")


def refuse(site: Path) -> None:
    with outbox_of(site) as outbox:
        outbox.promises.put_off(
            "pacs", ["1.9.1"], reason="set commitment: false", now=now(), rng=random.Random(0)
        )


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_queue_lists_it_with_the_reason_and_the_next_question(site: Path) -> None:
    refuse(site)
    asked = ["list", "--json", "--config", str(site / "node.yaml")]
    [row] = json.loads(CliRunner().invoke(app, asked).stdout)["deliveries"]
    assert (row["state"], row["reason"]) == ("stored", "set commitment: false")
    assert row["due_at"] > now().isoformat(timespec="seconds")
    told = CliRunner().invoke(app, ["retry", "--config", str(site / "node.yaml")]).stdout
    assert told.startswith("1 deliveries are due now")
    with outbox_of(site) as outbox:
        assert [errand.destination for errand in outbox.due(now())] == ["pacs"]
    told = CliRunner().invoke(app, ["drop", "--config", str(site / "node.yaml")]).stdout
    assert told == "0 dead letters dropped\n"


def test_a_study_says_that_it_is_stored_and_not_committed_to(
    site: Path, settings: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    found = study.collect(settings, STUDY)
    assert found["where"]["word"] == "stored"
    assert found["where"]["sentence"] == (
        "1 result stored at pacs, and not committed to yet: its report is waited for"
    )
    [delivery] = found["delivered"]
    assert delivery["next_try_at"]
    refuse(site)
    found = study.collect(settings, STUDY)
    assert found["where"]["sentence"].endswith("not committed to yet: set commitment: false")
    study_screen.show(found)
    told = words(capsys.readouterr().out)
    assert "pacs: 1 SR stored, not committed to yet, 2 tries, next at" in told


def test_it_needs_a_look_once_a_question_was_in_vain(
    site: Path, settings: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    found = overview.collect(settings)
    assert found["counts"]["deliveries_stored"] == 1
    assert not [one for one in found["needs_a_look"] if "stored" in one["what"]]
    refuse(site)
    found = overview.collect(settings)
    [trouble] = [one for one in found["needs_a_look"] if "stored" in one["what"]]
    assert trouble["what"].startswith("1 result stored and not committed to by pacs")
    assert trouble["cure"].startswith("set commitment: false; ")
    overview_screen.show(found)
    assert "1 stored and not committed to" in words(capsys.readouterr().out)


@pytest.mark.dimse
@pytest.mark.parametrize(
    ("commits", "caller", "said"),
    [
        (True, "PACS", ""),
        (True, "*", ""),
        (True, "OTHER", "list PACS under node.callers"),
        (False, "PACS", "offers no Storage Commitment; set commitment: false"),
    ],
)
def test_check_says_whether_commitment_can_be_had(
    free_port: Callable[[], int], commits: bool, caller: str, said: str
) -> None:
    with archive(free_port(), *RESULTS, commits=commits) as pacs:
        one = pacs.destination.model_copy(update={"send": ("seg", "sr")})
        node = NodeSettings(callers=(Caller(ae_title=caller),))
        [(_, fault, found)] = destinations(Config(node=node, destinations=(one,)))
    assert said in fault
    assert bool(fault) is bool(said)
    assert fault or "commits to keep what it stores" in found

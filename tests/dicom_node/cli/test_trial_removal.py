import json
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.books.study import collect
from dicom_node.cli.app import app
from dicom_node.cli.trial_removal import remove_trials
from dicom_node.cli.trial_steps import steps
from dicom_node.config import Config, Destination, load
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox
from dicom_node.phantom.trial import write_trial
from dicom_node.register import register_waiting
from tests.support.owed import result
from tests.support.waiting import put_bytes

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "node.yaml").write_text("node: {data: ./data, min_free_gib: 0}\n")
    found = load(tmp_path / "node.yaml")
    layout = Layout(found.node.data)
    layout.results.mkdir(parents=True)
    Outbox(layout.outbox, layout.results).close()
    return found


def received(config: Config, folder: Path, *, is_phantom: bool = True) -> str:
    """Let a trial be received, worked on and delivered; return its study."""
    layout = Layout(config.node.data)
    inbox = Inbox(layout.inbox, min_free_bytes=0)
    written = write_trial(folder, date(2026, 1, 2))[:1]
    study = written[0].study_instance_uid
    for instance in written:
        dataset = dcmread(instance.path)
        dataset.QualityControlSubject = "YES" if is_phantom else "NO"
        dataset.save_as(instance.path)
        put_bytes(inbox, instance.path.read_bytes())
    with closing(Index(layout.index)) as index:
        register_waiting(inbox, index, now=NOW)
        index.finish(study, index.complete(study, reason="a test", evidence={}, now=NOW))
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        made = result(layout.results, f"{study}.7"[-64:], study=study)
        outbox.add([made], [(made, "pacs")], analysed="1.9", models=study, now=NOW)
    return study


def deliver(config: Config) -> None:
    layout = Layout(config.node.data)
    with closing(Outbox(layout.outbox, layout.results)) as outbox:
        for row in outbox.rows():
            outbox.delivered(row.sop_instance_uid, "pacs", status=0, now=NOW)


def test_the_steps_of_a_study_are_read_from_what_status_says_of_it(
    config: Config, tmp_path: Path
) -> None:
    study = received(config, tmp_path / "trial")
    deliver(config)
    asked = config.model_copy(
        update={"destinations": (Destination(name="pacs", ae_title="P", host="h", port=104),)}
    )
    done = {
        step.what: step.found for step in steps(collect(asked, study), asked, 1) if step.is_done
    }
    assert done == {
        "registered": "1 of 1 images",
        "complete": "a test",
        "analysed": "by no model",
        "delivered to pacs": "SEG",
    }


def files(config: Config) -> int:
    return len([*config.node.data.rglob("*.dcm")])


def test_the_files_of_a_test_that_is_over_go_and_its_history_stays(
    config: Config, tmp_path: Path
) -> None:
    study = received(config, tmp_path / "trial")
    assert remove_trials(config).left == (study,), "it is owed to somebody"
    assert files(config) == 2
    deliver(config)
    asked = ["send-test", "--remove", "--json", "--config", str(tmp_path / "node.yaml")]
    told = json.loads(CliRunner().invoke(app, asked).stdout)
    assert (told["studies"], told["files"], told["left"]) == (1, 2, [])
    assert files(config) == 0
    with closing(Index(Layout(config.node.data).index)) as index:
        assert index.is_finished(study)
    assert remove_trials(config).files == 0


def test_what_does_not_say_itself_that_it_shows_a_phantom_stays(
    config: Config, tmp_path: Path
) -> None:
    received(config, tmp_path / "trial", is_phantom=False)
    deliver(config)
    assert remove_trials(config).files == 0
    assert files(config) == 2

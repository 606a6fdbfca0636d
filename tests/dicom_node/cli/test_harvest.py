import fcntl
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from dicom_node.archives import PaceSettings
from dicom_node.cli.app import app
from dicom_node.cli.harvest import _pace, _show
from dicom_node.cli.pulling import showing
from dicom_node.errors import ConfigError, NodeError
from dicom_node.pull.reconciled import Lack, Reconciled, Told
from tests.support.archived import write_study

ARCHIVE = "archives:\n  - {name: pacs, ae_title: PACS, host: 127.0.0.1, port: 1}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text("node: {data: ./data, min_free_gib: 0}\n" + ARCHIVE)
    return path


def fault(config: Path, *arguments: str) -> NodeError:
    result = CliRunner().invoke(app, ["harvest", *arguments, "--config", str(config)])
    assert isinstance(result.exception, NodeError), result.output
    return result.exception


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a folder, or an archive with --from and --since"),
        (["files", "--from", "pacs"], "name a folder, or an archive"),
        (["--from", "pacs"], "add --since"),
        (["files", "--since", "2024-01-01"], "--since and its like are for --from"),
        (["--from", "other", "--since", "2024-01-01"], "no such archive; archives: names pacs"),
        (["--from", "pacs", "--since", "2024-01-02", "--until", "2024-01-01"], "exchange them"),
        (["--from", "pacs", "--since", "2024-01-01", "--window", "1-2"], "--window 1-2: "),
        (["nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_use_is_said_with_the_cure(config: Path, arguments: list[str], words: str) -> None:
    found = fault(config, *arguments)
    assert isinstance(found, ConfigError)
    assert words in str(found)


def test_without_a_node_that_runs_nothing_is_asked_for(config: Path) -> None:
    words = str(fault(config, "--from", "pacs", "--since", "2024-01-01"))
    assert "start it with 'dicom-node serve'" in words


def test_the_node_s_own_data_is_no_folder_to_harvest(config: Path) -> None:
    for folder in (config.parent, config.parent / "data" / "inbox"):
        folder.mkdir(parents=True, exist_ok=True)
        assert "the node's own data" in str(fault(config, str(folder)))


def test_one_harvest_runs_at_a_time(config: Path) -> None:
    (config.parent / "files").mkdir()
    (config.parent / "data").mkdir()
    with (config.parent / "data" / "pull.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = str(fault(config, str(config.parent / "files")))
    assert "another 'dicom-node harvest' works" in words


def test_a_folder_is_taken_without_a_node_and_that_is_said(config: Path) -> None:
    write_study(config.parent / "files", 1, images=2)
    arguments = ["harvest", str(config.parent / "files"), "--config", str(config)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "registered when 'dicom-node serve' starts" in result.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    told = json.loads(result.stdout)
    assert (told["files"]["here already"], told["files"]["taken"]) == (2, 0)
    assert told["node_runs"] is False


def test_a_file_that_cannot_be_taken_makes_the_exit_status_1(config: Path) -> None:
    study = write_study(config.parent / "files", 1, images=1)
    study.files[0].write_bytes(study.files[0].read_bytes()[:200])
    arguments = ["harvest", str(config.parent / "files"), "--config", str(config)]
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_files_that_are_not_taken_are_named_in_a_private_list_that_each_run_replaces(
    config: Path,
) -> None:
    study = write_study(config.parent / "files", 1, images=2)
    whole = study.files[0].read_bytes()
    study.files[0].write_bytes(whole[132:])
    arguments = ["harvest", str(config.parent / "files"), "--config", str(config)]
    result = CliRunner().invoke(app, arguments)
    listed = config.parent / "data" / "not-taken.csv"
    assert result.exit_code == 1
    assert str(listed.name) in result.output
    assert "dcmconv" in result.output
    assert study.files[0].name not in result.output
    assert listed.read_text().splitlines() == [
        "why,file",
        f"DICOM without preamble,{study.files[0]}",
    ]
    assert listed.stat().st_mode & 0o777 == 0o600
    study.files[0].write_bytes(whole)
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(result.stdout)["not_taken"] is None
    assert listed.read_text().splitlines() == ["why,file"]


def test_what_the_line_gives_takes_the_place_of_what_the_archive_says() -> None:
    pace = _pace(PaceSettings(window="22:00-06:00"), {"window": None, "studies_per_minute": 3.0})
    assert (pace.window, pace.studies_per_minute) == ("22:00-06:00", 3.0)


def test_what_lacks_is_shown_by_its_uid(capsys: pytest.CaptureFixture[str]) -> None:
    lacks = tuple(
        Lack(study_instance_uid=f"1.2.{n}", instances=4, missing=1, reason="gone")
        for n in range(30)
    )
    _show(
        Reconciled(
            found=40,
            whole_before=3,
            whole=10,
            instances=50,
            asked_for=60,
            not_wanted=2,
            lacks=lacks,
            cut=("2024-01-02",),
        )
    )
    shown = capsys.readouterr().out
    assert "1.2.19" in shown
    assert "1.2.20" not in shown
    assert "and 10 more; --json names all" in shown
    assert "2024-01-02: the answer may have been cut short; raise longest_answer" in shown


def test_the_wait_for_a_window_is_a_line_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with showing(Console(file=out)) as tell:
        for done in range(101):
            tell(Told(step="studies", done=done, total=100))
        tell(
            Told(step="studies", done=100, total=100, waits_for="waits for the window 22:00-06:00")
        )
    lines = out.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-1] == "studies: 100/100, waits for the window 22:00-06:00"


def test_a_terminal_shows_a_bar_with_the_time_left() -> None:
    out = io.StringIO()
    with showing(Console(file=out, force_terminal=True, width=100)) as tell:
        tell(Told(step="studies", done=1, total=4))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "1/4" in plain
    assert "-:--:--" in plain

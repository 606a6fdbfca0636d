import re
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.main import get_command

from dicom_node import codes, config
from dicom_node.bundle import Routing
from dicom_node.cli.app import app
from dicom_node.cli.clocks import MOST_SKEW_S
from dicom_node.deliver.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
)
from dicom_node.forms import ReportForm, SegmentationForm
from dicom_node.inbox import Inbox
from dicom_node.infer.analyse import BATCH
from dicom_node.infer.host import LOAD_TIMEOUT_S
from dicom_node.infer.models import REFUSED_AGAIN_S
from dicom_node.infer.remote import CHECK_S, TOLERANCE
from dicom_node.ladder import classes_of_kinds
from dicom_node.metrics import METRICS
from dicom_node.node.children import Child
from dicom_node.node.health import looks
from dicom_node.node.readings import READINGS
from dicom_node.node.resuming import RESUME_S
from dicom_node.outbox.stills import HOLD_S
from dicom_node.receive.notice_statuses import NOT_AUTHORIZED, NOTICE_STATUSES
from dicom_node.receive.statuses import STATUSES, Status
from dicom_node.results.masks import STILLS
from dicom_node.results.overlay import WARNING
from dicom_node.results.write import STILLS_BUDGET_BYTES
from dicom_node.sop_classes import RESULTS
from dicom_node.web import exposed_name

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    "status", STATUSES + NOTICE_STATUSES, ids=lambda status: f"0x{status.code:04X}"
)
def test_the_table_of_statuses_is_the_one_that_the_receiver_runs_on(status: Status) -> None:
    text = (REPOSITORY / "docs" / "statuses.md").read_text("utf-8")
    comment = status.comment or "Success"
    row = f"| 0x{status.code:04X} | {comment} | {status.clause} |"
    assert row in text


def test_the_example_configuration_names_every_key_with_its_default() -> None:
    path = REPOSITORY / "deploy" / "node.yaml"
    config.load(path)
    example = yaml.safe_load(path.read_text("utf-8"))
    defaults = config.Config().model_dump(mode="json")
    for section in ("node", "study", "harvest", "infer"):
        assert set(example[section]) == set(defaults[section]), section
        for key, value in defaults[section].items():
            if key not in ("callers", "data"):
                assert example[section][key] == value, f"{section}.{key}"


def test_the_page_for_operators_has_every_metric_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    metrics = [m for m in (*METRICS, *READINGS) if not m.is_own or m.labels]
    rows = [
        f"| `{exposed_name(m)}`{' by ' * bool(m.labels)}{', '.join(m.labels)} | {m.help} |"
        for m in metrics
    ]
    assert re.findall(r"^\| `dicom_node_.*", text.split("## Every metric")[1], re.MULTILINE) == rows
    known = {exposed_name(metric) for metric in metrics}
    assert set(re.findall(r"dicom_node_[a-z_]+", text)) <= known


def test_every_line_of_the_log_that_the_page_for_operators_names_is_written() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    named = [
        words
        for phrase in re.findall(r"[Ll]ines? ((?:`[a-z_ ]+`(?:, | and )?)+)", text)
        for words in re.findall(r"`([a-z_ ]+)`", phrase)
    ]
    assert len(named) >= 6
    code = "".join(path.read_text("utf-8") for path in (REPOSITORY / "dicom_node").rglob("*.py"))
    for words in named:
        assert f'"{words}' in code, words


def test_the_page_for_operators_says_how_far_off_a_clock_may_be() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    assert f"more than {MOST_SKEW_S:g} s off" in text


def test_the_page_for_operators_has_every_check_of_healthz(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    table = text.split("## What `/healthz` looks at")[1].split("\n\n")[1]
    named = re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE)[1:]
    settings = config.Config()
    child = Child(get_context("spawn"), "child", "nothing:at_all", settings)
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    names = [look.name for look in looks(settings, inbox, child, [child])]
    assert ", ".join(named).split(", ") == names


def test_what_is_said_of_destinations_names_every_kind_class_and_default() -> None:
    text = (REPOSITORY / "docs" / "destinations.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `([a-z]+)` \| ([^|]+) \|", text, re.MULTILINE))
    [shown] = yaml.safe_load(text.split("```")[1])["destinations"]
    defaults = config.Destination(**{**shown, "send": ("seg", "sr")})
    named = {
        kind: tuple(RESULTS[uid] for uid in classes)
        for kind, classes in classes_of_kinds(defaults).items()
    }
    assert {kind: tuple(cell.split(", ")) for kind, cell in table.items()} == named
    example = yaml.safe_load((REPOSITORY / "deploy" / "node.yaml").read_text("utf-8"))
    for found in (shown, *example["destinations"]):
        assert tuple(found["send"]) == defaults.send
        assert tuple(found["fallback"]) == defaults.fallback == ("pr", "sc")
    assert WARNING in text


def test_the_page_of_objects_has_every_form_and_how_a_report_ends() -> None:
    text = (REPOSITORY / "docs" / "objects.md").read_text("utf-8")
    named = re.findall(r"^\| `([a-z_0-9]+)` \|", text, re.MULTILINE)
    assert named == [*SegmentationForm, *ReportForm]
    for field, forms in (("segmentation", SegmentationForm), ("report", ReportForm)):
        assert f"| `{field}:` |" in text
        assert get_args(config.Destination.model_fields[field].annotation) == tuple(forms)
        assert config.Destination.model_fields[field].default == next(iter(forms))
    ends = [
        codes.ALL_SUCCEEDED_WITHOUT_FINDINGS,
        codes.ALL_SUCCEEDED_WITH_FINDINGS,
        codes.SOME_SUCCEEDED_WITHOUT_FINDINGS,
        codes.SOME_SUCCEEDED_WITH_FINDINGS,
        codes.NONE_SUCCEEDED,
    ]
    assert re.findall(r"\b1112\d\d\b", text) == [code.value for code in ends]


def test_what_is_said_of_stills_is_what_the_code_does() -> None:
    text = (REPOSITORY / "docs" / "objects.md").read_text("utf-8")
    assert f"{STILLS_BUDGET_BYTES // 2**20} MiB of label maps" in text
    assert f"`results/{STILLS}`" in text
    assert f"wait {HOLD_S // 60:g} minutes at most" in text
    code = "".join(path.read_text("utf-8") for path in (REPOSITORY / "dicom_node").rglob("*.py"))
    for words in ("stills not merged", "spacings differ"):
        assert f"`{words}`" in text
        assert words in code


def test_every_command_that_the_readme_names_exists() -> None:
    named = re.findall(r"dicom-node ((?:[a-z-]+ ?){1,2})", README)
    assert named
    root = get_command(app)
    for words in named:
        command: object = root
        for word in words.split():
            commands = getattr(command, "commands", None)
            if commands is None or word.startswith("-"):
                break
            assert word in commands, f"dicom-node {words}"
            command = commands[word]


def test_every_place_that_the_readme_names_exists() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPOSITORY / link).exists(), link
    for place in re.findall(r"^\| `([a-z_/.]+)`", README, flags=re.MULTILINE):
        assert (REPOSITORY / place).exists(), place


def test_what_is_said_of_completion_names_settings_and_reasons_that_exist() -> None:
    text = (REPOSITORY / "docs" / "completion.md").read_text("utf-8")
    named = set(re.findall(r"`study\.([a-z_]+)`", text))
    assert named == set(config.StudySettings.model_fields)
    reasons = (PROCESSING_FAILURE, NO_SUCH_OBJECT_INSTANCE, CLASS_INSTANCE_CONFLICT)
    assert set(re.findall(r"0x0[0-9A-F]{3}", text)) == {
        f"0x{code:04X}" for code in (*reasons, NOT_AUTHORIZED.code)
    }


def test_the_page_on_models_names_conditions_settings_and_lines_that_exist() -> None:
    text = (REPOSITORY / "docs" / "models.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == list(Routing.model_fields)
    assert set(re.findall(r"infer\.([a-z_]+)", text)) <= set(config.InferSettings.model_fields)
    code = "".join(path.read_text("utf-8") for path in (REPOSITORY / "dicom_node").rglob("*.py"))
    for words in ("bundle refused", "bundle loaded", "provider not available", "provider failed"):
        assert f"`{words}`" in text
        assert f'"{words}' in code
    assert f"{LOAD_TIMEOUT_S:g} s" in text
    assert f"to {BATCH} frames" in text
    server = text.split("## On a model server")[1].split("## GPU")[0]
    for words in (
        f"up to {BATCH}",
        f"than {TOLERANCE:g}",
        f"loaded, every {CHECK_S:g} s",
        f"asked every {RESUME_S:g} s",
    ):
        assert words in " ".join(server.split())
    assert REFUSED_AGAIN_S == 60, "every minute"

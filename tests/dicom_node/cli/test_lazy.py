import re
import subprocess
import sys

import pytest
import typer
from typer.main import get_command

from dicom_node.cli.app import app
from dicom_node.cli.lazy import LazyGroup
from training.__main__ import app as training

SCRIPT = """
import sys
from typer.main import get_command
from dicom_node.cli.app import app
get_command(app).commands[{command!r}]
print(*sorted({{name.split('.')[0] for name in sys.modules}}))
"""
MODELS = {"highdicom", "onnxruntime", "torch", "pynetdicom", "pydicom"}


@pytest.mark.parametrize("command", ["status", "queue", "serve"])
def test_a_command_that_runs_no_model_loads_none(command: str) -> None:
    run = [sys.executable, "-c", SCRIPT.format(command=command)]
    loaded = set(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())
    assert "dicom_node" in loaded
    assert loaded.isdisjoint(MODELS)


@pytest.mark.parametrize("known", [app, training], ids=["dicom-node", "train"])
def test_help_lists_every_command_by_the_first_words_of_its_own_help(known: typer.Typer) -> None:
    group = get_command(known)
    assert isinstance(group, LazyGroup)
    own = {name: (one.help or "").split("\n\n")[0] for name, one in group.commands.items()}
    assert own == {name: one.help for name, one in group.listed.items()}
    assert own


@pytest.mark.parametrize("module, known", [("dicom_node", app), ("training", training)])
def test_help_imports_no_command(module: str, known: typer.Typer) -> None:
    run = [sys.executable, "-X", "importtime", "-m", module, "--help"]
    found = subprocess.run(run, check=True, capture_output=True, text=True)
    imported = set(re.findall(r"\| +(\S+)$", found.stderr, re.MULTILINE))
    assert "dicom_node.cli.lazy" in imported
    group = get_command(known)
    assert isinstance(group, LazyGroup)
    assert imported.isdisjoint(one.module for one in group.listed.values())
    assert not {name for name in imported if name.split(".")[0] in {*MODELS, "dbos"}}
    assert "Commands" in found.stdout


def test_a_mistyped_command_is_wrong_use_and_gets_a_suggestion() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "dicom_node", "statsu"], check=False, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert "status" in found.stderr

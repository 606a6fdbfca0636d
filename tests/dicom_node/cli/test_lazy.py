import re
import subprocess
import sys

import pytest
from typer.main import get_command

from dicom_node.cli.app import app

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


def test_help_names_every_command_with_what_it_does() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "dicom_node", "--help"], check=True, capture_output=True, text=True
    ).stdout
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) == 11
    for name, command in commands.items():
        first_words = r"\s+".join(map(re.escape, (command.help or "").split()[:3]))
        assert re.search(rf"\b{name}\s+{first_words}", found), name


def test_a_mistyped_command_is_wrong_use_and_gets_a_suggestion() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "dicom_node", "statsu"], check=False, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert "status" in found.stderr

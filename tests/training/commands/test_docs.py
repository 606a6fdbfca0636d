"""What the documents tell a researcher to type is what the commands take."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from typer.main import get_command

from tests.conftest import REPOSITORY
from tests.support.commands import SMALL
from training.__main__ import app


def commands() -> Mapping[str, Any]:
    return get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def parse(words: str) -> None:
    name, *options = shlex.split(words)
    command = commands()[name]
    # a group alone takes anything behind the name of a command
    while hasattr(command, "commands"):
        name, *options = options
        command = command.commands[name]
    command.make_context(name, options)


PAGES = {
    "README.md": {"pretrain", "finetune", "evaluate", "export"},
    "docs/training.md": {"pretrain", "finetune", "evaluate", "export", "volumes"},
    "docs/volumes.md": {"volumes"},
    "docs/results.md": {"folds", "lesions", "cam", "volumes"},
}


@pytest.mark.parametrize("page", PAGES)
def test_every_line_of_training_is_parsed(page: str) -> None:
    text = (REPOSITORY / page).read_text("utf-8")
    lines = re.findall(r"^dicom-node train (.+?)(?:  +#.*)?$", text, re.MULTILINE)
    assert {words.split()[0] for words in lines} >= PAGES[page]
    for words in lines:
        parse(words)


@pytest.mark.parametrize("words", ["volumes pretrain --nonsense x", "cam --nonsense x"])
def test_an_option_that_no_command_has_is_not_parsed(words: str) -> None:
    with pytest.raises(Exception, match="--nonsense"):
        parse(words)


def test_the_trial_of_the_page_is_the_one_that_the_tests_run() -> None:
    text = (REPOSITORY / "docs" / "training.md").read_text("utf-8")
    trials = re.findall(
        r"^dicom-node train \w+ .+--out runs/trial.* --config.*$", text, re.MULTILINE
    )
    assert len(trials) == 2
    for line in trials:
        assert line.endswith(" ".join(SMALL)), line


def test_every_example_of_the_help_is_parsed() -> None:
    for name, command in commands().items():
        _, example = str(command.help).split("Example: dicom-node train ")
        assert example.split()[0] == name
        parse(example)
        for below, one in getattr(command, "commands", {}).items():
            _, example = str(one.help).split("Example: dicom-node train ")
            assert example.split()[:2] == [name, below]
            parse(example)

"""A newcomer gets from a copied configuration to a training, with the words of the README."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.first_hour.hour import TRIAL, FirstHour, words_of_readme


@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(900)  # beside other work; alone it takes under a minute
def test_the_first_hour_goes_from_a_copied_file_to_a_training(
    tmp_path: Path, needs_program: Callable[[str], str]
) -> None:
    hour = FirstHour(folder=tmp_path, storescu=needs_program("storescu"))
    hour.run(with_training=find_spec("torch") is not None)
    print(hour.table())  # noqa: T201 - shown by -rP
    assert hour.received.count("SR") == 2, "a report of each of two images"
    assert "SEG" in hour.received
    page = (REPOSITORY / "docs" / "first-hour.md").read_text("utf-8")
    for step in hour.steps:
        assert f"| {step.want} | `{step.typed}` |" in page, "python -m tests.first_hour prints it"


def test_the_trial_of_the_page_is_the_one_that_was_run() -> None:
    page = (REPOSITORY / "docs" / "first-hour.md").read_text("utf-8")
    assert " ".join(TRIAL) in " ".join(page.split())


def test_the_readme_names_the_commands_of_the_first_hour() -> None:
    named = {" ".join(words.split()) for words in words_of_readme()}
    wanted = {"check", "serve", "status", "queue list", "queue retry", "labels unmapped"}
    assert wanted <= named
    assert any(words.startswith("train pretrain") for words in named)

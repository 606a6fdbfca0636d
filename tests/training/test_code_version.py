import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node import __version__
from training.code_version import code_version


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    found = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is missing: apt-get install git")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "code.py").write_text("one = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_of_a_checkout_the_version_names_the_commit_and_whether_it_was_changed(
    checkout: Path,
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")[:12]
    assert code_version(checkout) == f"{__version__}+g{commit}"
    (checkout / "notes.txt").write_text("no code")
    assert code_version(checkout) == f"{__version__}+g{commit}"
    (checkout / "code.py").write_text("one = 2\n")
    assert code_version(checkout) == f"{__version__}+g{commit}.dirty"


def test_a_hook_of_another_repository_does_not_change_the_answer(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_version(checkout)
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert code_version(checkout) == before


def test_without_a_checkout_or_git_the_version_stands_alone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "inside").mkdir()
    assert code_version(checkout / "inside") == __version__
    monkeypatch.setenv("PATH", str(checkout / "inside"))
    assert code_version(checkout) == __version__

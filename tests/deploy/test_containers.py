"""The Containerfiles, as far as they can be followed without a container engine."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONTAINERFILES = sorted((REPOSITORY / "deploy").glob("Containerfile.*"))
#: where the image has the environment
ENVIRONMENT = "/opt/dicom-node"
SERVE_LIMIT_BYTES = 1_500_000_000


def steps(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile with their arguments."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def copied(path: Path) -> list[str]:
    """Return what is copied out of the checkout."""
    found = [shlex.split(rest) for word, rest in steps(path) if word == "COPY"]
    return [name for words in found if not words[0].startswith("--from") for name in words[:-1]]


def test_there_is_one_for_serving_and_one_for_training() -> None:
    assert {"Containerfile.serve", "Containerfile.train"} <= {path.name for path in CONTAINERFILES}


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.suffix)
def test_what_is_copied_is_in_the_checkout_and_reaches_the_builder(path: Path) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    for name in copied(path):
        assert (REPOSITORY / name).exists(), name
        assert name.split("/")[0] in allowed, name


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.suffix)
def test_an_image_of_ours_does_not_run_as_root(path: Path) -> None:
    users = [rest for word, rest in steps(path) if word == "USER"]
    bases = [rest for word, rest in steps(path) if word == "FROM"]
    assert users[-1:] not in ([], ["root"]) or "unprivileged" in bases[-1]


def test_every_package_of_the_checkout_is_in_the_image_that_trains() -> None:
    names = copied(REPOSITORY / "deploy" / "Containerfile.train")
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert packages - {"tests"} <= {*names}


def test_the_image_that_serves_is_checked_as_the_site_would_check_it() -> None:
    path = REPOSITORY / "deploy" / "Containerfile.serve"
    [check] = [rest for word, rest in steps(path) if word == "HEALTHCHECK"]
    assert ":9112/healthz" in check
    [start] = [rest for word, rest in steps(path) if word == "CMD"]
    assert start == '["serve", "--config", "/etc/dicom-node/node.yaml"]'


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_steps_of_the_image_that_serves_install_no_torch_and_stay_below_its_limit(
    tmp_path: Path,
) -> None:
    path = REPOSITORY / "deploy" / "Containerfile.serve"
    source, environment = tmp_path / "src", tmp_path / "environment"
    source.mkdir()
    for name in copied(path):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, source / name)
    commands = [rest for word, rest in steps(path) if word == "RUN" and ENVIRONMENT in rest]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command.replace(ENVIRONMENT, str(environment)))
        # in an image a cache is ballast, here it saves a download of 400 MB
        words = [word for word in words if word != "--no-cache-dir"]
        words[0] = sys.executable if words[0] == "python" else words[0]
        done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
        if "NewConnectionError" in done.stderr:
            pytest.skip("no package registry can be reached")
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    program = [str(environment / "bin" / "dicom-node"), "--version"]
    said = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("dicom-node ")
    installed = {found.name.lower() for found in environment.glob("lib/*/site-packages/*")}
    assert "dicom_node" in installed
    assert not installed & {"torch", "onnx", "models", "training", "tests"}
    size = sum(found.lstat().st_size for found in environment.rglob("*") if found.is_file())
    assert size < SERVE_LIMIT_BYTES

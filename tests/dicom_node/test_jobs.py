import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dicom_node.errors import TemporaryError
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url

DEADLINE_S = 30.0


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def seen() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def dispatcher(tmp_path: Path, seen: list[tuple[str, str]]) -> Iterator[Dispatcher]:
    def stage(name: str) -> Callable[[Sequence[str]], dict[str, int]]:
        def run(arguments: Sequence[str]) -> dict[str, int]:
            seen.append((name, arguments[0]))
            if arguments[0] == "broken" and name == "second":
                raise ValueError("for ever")
            return {}

        return run

    kinds = {
        "study": Kind(stages=(("first", stage("first")), ("second", stage("second"))), at_once=1),
        "deliver": Kind(stages=(("send", stage("send")),), at_once=4, partitioned=True),
    }
    url = database_url(tmp_path / "jobs.db", None)
    worker = Worker(url, kinds, executor_id="test")
    handing_out = Dispatcher(url)
    yield handing_out
    handing_out.close()
    worker.close(timeout_s=5)


def test_the_stages_of_a_job_run_in_order(
    dispatcher: Dispatcher, seen: list[tuple[str, str]]
) -> None:
    dispatcher.enqueue("study", "study:1", ["a"])
    until(lambda: len(seen) == 2)
    assert seen == [("first", "a"), ("second", "a")]
    until(lambda: dispatcher.unfinished() == [])


def test_the_same_job_id_runs_once(dispatcher: Dispatcher, seen: list[tuple[str, str]]) -> None:
    for _ in range(3):
        dispatcher.enqueue("deliver", "deliver:1", ["a"], partition="pacs")
    dispatcher.enqueue("deliver", "deliver:2", ["b"], partition="pacs")
    until(lambda: ("send", "b") in seen and dispatcher.unfinished() == [])
    assert sorted(seen) == [("send", "a"), ("send", "b")]


def test_a_failed_job_is_kept_with_its_error_and_can_be_retried(
    dispatcher: Dispatcher, seen: list[tuple[str, str]]
) -> None:
    dispatcher.enqueue("study", "study:broken", ["broken"])
    until(lambda: len(dispatcher.failed()) == 1)
    [job] = dispatcher.failed()
    assert (job.job_id, job.kind, job.error) == ("study:broken", "study", "ValueError")
    assert dispatcher.find("study:broken") == job
    assert dispatcher.find("study:never") is None
    before = len(seen)
    dispatcher.retry(job)
    until(lambda: len(seen) == before + 2 and len(dispatcher.failed()) == 1)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url

folder = Path(sys.argv[1])

def first(arguments):
    with (folder / "first").open("a") as file:
        file.write("x")
    return {}

def second(arguments):
    with (folder / "second").open("a") as file:
        file.write("x")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "done").touch()
    return {}

url = database_url(folder / "jobs.db", None)
kinds = {"study": Kind(stages=(("first", first), ("second", second)), at_once=1)}
worker = Worker(url, kinds, executor_id="same")
dispatcher = Dispatcher(url)
dispatcher.enqueue("study", "study:1", ["a"])
deadline = time.monotonic() + 30
while not (folder / "done").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
dispatcher.close()
worker.close(timeout_s=5)
"""


@pytest.mark.slow
def test_after_kill_9_a_job_goes_on_with_the_stage_that_was_running(tmp_path: Path) -> None:
    def run(how: str) -> int:
        command = [sys.executable, "-c", KILLED, str(tmp_path), how]
        return subprocess.run(command, check=False).returncode

    assert run("die") == -9
    assert not (tmp_path / "done").exists()
    assert run("live") == 0
    assert (tmp_path / "done").exists()
    assert (tmp_path / "first").read_text() == "x", "a finished stage must not run again"
    assert (tmp_path / "second").read_text() == "xx"


POISON = """
import os, signal, sys, time
from pathlib import Path
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url

folder = Path(sys.argv[1])

def run(arguments):
    with (folder / arguments[0]).open("a") as file:
        file.write("x")
    if arguments[0] == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return {}

url = database_url(folder / "jobs.db", None)
kinds = {"study": Kind(stages=(("only", run),), at_once=1)}
worker = Worker(url, kinds, executor_id="same", max_recovery_attempts=1)
dispatcher = Dispatcher(url)
for name in ("poison", "innocent"):
    dispatcher.enqueue("study", name, [name])
deadline = time.monotonic() + 30
while dispatcher.unfinished() and time.monotonic() < deadline:
    time.sleep(0.05)
print([job.job_id for job in dispatcher.failed()], flush=True)
dispatcher.close()
worker.close(timeout_s=5)
"""


@pytest.mark.slow
def test_a_job_that_ends_its_process_each_time_is_parked_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", POISON, str(tmp_path)]
    ends = [subprocess.run(command, check=False, capture_output=True, text=True) for _ in range(3)]
    assert [end.returncode for end in ends] == [-9, -9, 0]
    assert ends[-1].stdout.strip() == "['poison']"
    assert (tmp_path / "poison").read_text() == "xx", "the first time, and once more"
    assert (tmp_path / "innocent").read_text() == "x"


def test_a_passing_error_is_told_from_a_lasting_one() -> None:
    from dicom_node.jobs import _is_temporary  # noqa: PLC0415

    assert _is_temporary(TemporaryError())
    assert _is_temporary(OSError(28, "No space left on device"))
    assert not _is_temporary(ValueError())

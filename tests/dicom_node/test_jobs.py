import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.errors import ModelServerDownError, TemporaryError
from dicom_node.jobs import (
    Dispatcher,
    JobRow,
    Kind,
    Worker,
    database_url,
    in_turns,
    stop_if_cancelled,
)

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


def test_no_more_jobs_run_at_once_than_their_kind_allows() -> None:
    decoder, was_free = threading.Lock(), []

    def job(number: int) -> int:
        was_free.append(decoder.acquire(blocking=False))
        time.sleep(0.05)  # so long another one could come in
        if was_free[-1]:
            decoder.release()
        return number

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(in_turns(job, 1), range(3))) == [0, 1, 2]
    assert was_free == [True] * 3


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


def test_a_failed_job_runs_once_and_holds_up_no_other(
    dispatcher: Dispatcher, seen: list[tuple[str, str]]
) -> None:
    dispatcher.enqueue("study", "study:broken", ["broken"])
    dispatcher.enqueue("study", "study:sound", ["sound"])
    until(lambda: ("second", "sound") in seen and dispatcher.unfinished() == [])
    assert seen.count(("second", "broken")) == 1
    [job] = dispatcher.failed()
    assert "job failed" in job.cure
    assert job.cure.endswith("dicom-node queue retry study:broken")
    dispatcher.enqueue("study", "study:broken", ["broken"])
    assert dispatcher.unfinished() == [], "only a person runs it again"


class Halting:
    """A stage that works on images one by one, as long as its job is not cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.goes_on = threading.Event()

    def __call__(self, arguments: Sequence[str]) -> dict[str, int]:
        for image in arguments:
            stop_if_cancelled()
            self.begun.append(image)
            assert self.goes_on.wait(DEADLINE_S)
        return {}


@pytest.fixture
def halting() -> Halting:
    return Halting()


@pytest.fixture
def halted(tmp_path: Path, halting: Halting) -> Iterator[Dispatcher]:
    url = database_url(tmp_path / "jobs.db", None)
    kinds = {"study": Kind(stages=(("work", halting), ("finish", lambda _: {})), at_once=1)}
    worker, handing_out = Worker(url, kinds, executor_id="test"), Dispatcher(url)
    yield handing_out
    halting.goes_on.set()
    handing_out.close()
    worker.close(timeout_s=5)


def find(dispatcher: Dispatcher, job_id: str) -> JobRow:
    found = dispatcher.find(job_id)
    assert found is not None
    return found


def test_a_job_that_runs_stops_at_its_next_image_and_can_be_run_again(
    halted: Dispatcher, halting: Halting
) -> None:
    halted.enqueue("study", "running", ["a", "b"])
    until(lambda: halting.begun == ["a"])
    halted.cancel(find(halted, "running"))
    halting.goes_on.set()
    halted.enqueue("study", "next", ["c"])
    until(lambda: halted.unfinished() == [])
    assert halting.begun == ["a", "c"]
    [job] = halted.cancelled()
    assert (job.job_id, halted.failed()) == ("running", [])
    assert "dicom-node queue retry running" in job.cure
    halted.retry(job)
    until(lambda: halted.unfinished() == [])
    assert halting.begun == ["a", "c", "a", "b"]
    assert halted.cancelled() == []


def test_a_job_that_waits_and_is_cancelled_never_starts(
    halted: Dispatcher, halting: Halting
) -> None:
    halted.enqueue("study", "running", ["a"])
    until(lambda: halting.begun == ["a"])
    halted.enqueue("study", "waiting", ["b"])
    halted.cancel(find(halted, "waiting"))
    halted.enqueue("study", "last", ["c"])
    halting.goes_on.set()
    until(lambda: halted.unfinished() == [])
    assert halting.begun == ["a", "c"]


def test_a_job_in_a_line_of_its_own_is_retried_there(tmp_path: Path) -> None:
    faults = [ValueError("once")]

    def send(_: Sequence[str]) -> dict[str, int]:
        if faults:
            raise faults.pop()
        return {}

    url = database_url(tmp_path / "jobs.db", None)
    kinds = {"deliver": Kind(stages=(("send", send),), at_once=2, partitioned=True)}
    worker, dispatcher = Worker(url, kinds, executor_id="test"), Dispatcher(url)
    try:
        dispatcher.enqueue("deliver", "deliver:1", ["a"], partition="pacs")
        until(lambda: len(dispatcher.failed()) == 1)
        dispatcher.retry(dispatcher.failed()[0])
        until(lambda: dispatcher.failed() == [] and dispatcher.unfinished() == [])
    finally:
        dispatcher.close()
        worker.close(timeout_s=5)


def test_stages_that_no_job_runs_are_never_cancelled() -> None:
    stop_if_cancelled()


NAMED = """
import sys, time
from dicom_node.jobs import Dispatcher, Kind, Worker

url, name, wanted = sys.argv[1:]
ran = []
stage = lambda arguments: ran.append(arguments[0]) or {}
kinds = {"study": Kind(stages=(("only", stage),), at_once=1)}
worker = Worker(url, kinds, executor_id=name)
dispatcher = Dispatcher(url, name)
dispatcher.enqueue("study", "study:1", [name])
deadline = time.monotonic() + 60
while len(ran) < int(wanted) and time.monotonic() < deadline:
    time.sleep(0.05)
while dispatcher.unfinished() and time.monotonic() < deadline:
    time.sleep(0.05)
print(sorted(ran), flush=True)
dispatcher.close()
worker.close(timeout_s=5)
"""


@pytest.mark.slow
@pytest.mark.peers
def test_nodes_of_one_database_run_their_own_jobs_only(postgres_url: str) -> None:
    def run(name: str, wanted: int) -> str:
        command = [sys.executable, "-c", NAMED, postgres_url, name, str(wanted)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert run("node-0", 1) == "['node-0']"
    first, second = Dispatcher(postgres_url), Dispatcher(postgres_url, "b")
    for dispatcher in (first, second):
        dispatcher.enqueue("study", "study:2", ["left over"])
    assert run("b", 2) == "['b', 'left over']"
    assert [job.job_id for job in first.unfinished()] == ["study:2"]
    assert [job.job_id for job in second.unfinished_of("node-0")] == ["study:2"]
    assert second.unfinished() == first.unfinished_of("b") == []
    found = second.find("study:1")
    assert found is not None
    assert found.job_id == "study:1@b"
    first.close()
    second.close()


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
    assert not _is_temporary(ModelServerDownError()), "the job is put off, and not its line"

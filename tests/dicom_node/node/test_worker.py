import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dicom_node.config import Config, NodeSettings, StudySettings
from dicom_node.index import StudyRow, StudyState
from dicom_node.jobs import Dispatcher, Worker, database_url
from dicom_node.metrics import Page
from dicom_node.node import worker
from dicom_node.node.vitals import Vitals
from dicom_node.node.worker import NICENESS, open_parts
from dicom_node.pipeline import Dispatch, Parts
from tests.support.nodes import Node, node_on, until
from tests.support.waiting import put

pytestmark = [pytest.mark.dimse, pytest.mark.slow]


def holds(process: psutil.Process, name: str) -> bool:
    return any(Path(file.path).name == name for file in process.open_files())


def niceness(process: psutil.Process) -> list[int]:
    """Return that of every thread: in Linux each has its own."""
    return [os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()]


def counted_bytes(node: Node) -> int | None:
    lines = [json.loads(line) for line in node.log.splitlines() if line.startswith("{")]
    return next((line["bytes"] for line in lines if line["event"] == "inbox counted"), None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads share it elsewhere")
def test_the_worker_and_what_it_starts_yield_to_the_receivers(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with node_on(tmp_path, free_port()) as node:
        node.start()
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        children = node.processes()[1:]
        [worker] = [child for child in children if holds(child, "worker.lock")]
        receivers = [child for child in children if child.net_connections(kind="tcp")]
        # what numpy started when it was imported, and who waits for the supervisor, are older
        yielding = [value for value in niceness(worker) if value >= min(usual + NICENESS, 19)]
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) in yielding
        assert len(yielding) > len(niceness(worker)) / 2
        assert receivers
        assert all(set(niceness(receiver)) == {usual} for receiver in receivers)


def test_a_start_corrects_what_the_node_believes_to_hold(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with node_on(tmp_path, free_port()) as node:
        kept = node.layout.inbox / "kept" / "00"
        kept.mkdir(parents=True)
        (node.layout.inbox / "bytes").write_bytes((10**12).to_bytes(8, "little"))
        (kept / f"{0:024x}.dcm").write_bytes(b"not DICOM")
        node.start()
        assert until(lambda: counted_bytes(node), why=node.log) == 9


RESTING, FED = "1.2.1", "1.2.2"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        study=StudySettings(quiet_s=1, evidence_quiet_s=1, longest_s=2),
    )
    with open_parts(config) as opened:
        yield opened


@pytest.fixture
def dispatcher(tmp_path: Path) -> Iterator[Dispatcher]:
    url = database_url(tmp_path / "jobs.db", None)
    jobs = Worker(url, {}, executor_id="test")
    dispatcher = Dispatcher(url)
    yield dispatcher
    dispatcher.close()
    jobs.close(timeout_s=1)


class Feeding(Dispatch):
    """Something comes before each look, so that none finds the inbox empty."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher) -> None:
        super().__init__(parts, dispatcher)
        self.inbox = parts.inbox
        self.numbers = itertools.count(1)

    def register(self) -> int:
        put(self.inbox, next(self.numbers), study=FED)
        return super().register()


def test_a_feed_without_a_pause_holds_no_study_open(
    parts: Parts, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(study: str) -> StudyRow | None:
        row = parts.index.study(study)
        return row if row is not None and row.state is StudyState.COMPLETE else None

    monkeypatch.setattr(worker, "REGISTER_S", 0.1)
    put(parts.inbox, 0, study=RESTING)
    vitals = Vitals(Page(), parts.index, parts.outbox, dispatcher)
    stop = threading.Event()
    sweep = threading.Thread(
        target=worker._sweep, args=(Feeding(parts, dispatcher), vitals, stop), daemon=True
    )
    sweep.start()
    rested = until(lambda: complete(RESTING), deadline_s=20)
    fed = until(lambda: complete(FED), deadline_s=20)
    assert sweep.is_alive(), "the feed had a pause"
    stop.set()
    sweep.join(20)
    assert rested.reason == "nothing came for 1 s"
    assert fed.reason == "the first new instance came at least 2 s ago"
    assert {job.job_id.split(":")[1] for job in dispatcher.unfinished()} == {RESTING, FED}

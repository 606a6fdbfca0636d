"""Every look at the node, by breaking what it looks at."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node import metrics
from dicom_node.config import Config, NodeSettings
from dicom_node.inbox import Inbox
from dicom_node.index import Index
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url
from dicom_node.listeners import close, listen
from dicom_node.node.children import Child
from dicom_node.node.health import Limits, looks
from dicom_node.node.layout import Layout
from dicom_node.node.readings import CERTIFICATE, readings
from dicom_node.node.serve import RECEIVER, WORKER
from dicom_node.node.vitals import Vitals, watched
from dicom_node.outbox import Outbox
from tests.support.certificates import certificates
from tests.support.nodes import until

IDLE = "tests.support.children:idle"


class Place:
    """A node's folder, with children that do nothing."""

    def __init__(self, folder: Path, port: int, **settings: object) -> None:
        node = NodeSettings.model_validate(
            {"data": folder / "data", "port": port, "min_free_gib": 0.0} | settings
        )
        self.config = Config(node=node)
        self.layout = Layout(node.data)
        node.data.mkdir(exist_ok=True)
        self.inbox = Inbox(
            self.layout.inbox, min_free_bytes=int(node.min_free_gib * 2**30), quota_bytes=None
        )
        Index(self.layout.index).close()
        Outbox(self.layout.outbox, self.layout.results).close()
        context = multiprocessing.get_context("spawn")
        self.worker = Child(context, "worker", IDLE, self.config)
        self.receiver = Child(context, "receiver-0", IDLE, self.config)

    def fault(self, name: str, limits: Limits | None = None) -> str:
        found = looks(self.config, self.inbox, self.worker, [self.receiver], limits)
        [look] = [look for look in found if look.name == name]
        assert look.cure
        return look.fault()


@pytest.fixture
def place(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Place]:
    place = Place(tmp_path, free_port())
    yield place
    for child in (place.worker, place.receiver):
        child.ask_to_stop()
        child.end(time.monotonic() + 10)


def is_ready(child: Child) -> bool:
    child.watch()
    return child.is_ready


def test_a_process_that_does_not_run_is_named(place: Place) -> None:
    assert place.fault("receivers") == "not ready: receiver-0"
    assert place.fault("worker") == "not ready: worker"


@pytest.mark.slow
def test_a_killed_process_is_a_fault_until_it_is_back(place: Place) -> None:
    place.receiver.start()
    until(lambda: is_ready(place.receiver))
    assert place.fault("receivers") == ""
    assert place.receiver.pid is not None
    os.kill(place.receiver.pid, signal.SIGKILL)
    place.receiver.page.set(metrics.OPEN, 3)
    until(place.receiver.watch)
    assert place.receiver.page.get(metrics.OPEN) == 0
    assert place.fault("receivers") == "not ready: receiver-0"
    until(lambda: is_ready(place.receiver))
    assert place.fault("receivers") == ""


@pytest.mark.slow
@pytest.mark.parametrize("look", ["sweep", "accepting"])
def test_a_process_that_hangs_is_a_fault_until_it_goes_on(place: Place, look: str) -> None:
    context = multiprocessing.get_context("spawn")
    listeners = listen(place.config.node)
    place.worker = Child(context, "worker", WORKER, place.config)
    place.receiver = Child(context, "receiver-0", RECEIVER, place.config, *listeners)
    child = place.worker if look == "sweep" else place.receiver
    limits = Limits(sweep_s=3, accept_s=3)
    child.start()
    until(lambda: child.page.get(metrics.ALIVE_AT))
    assert place.fault(look, limits) == ""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    assert f"the last sign of {child.name} was" in until(lambda: place.fault(look, limits))
    os.kill(child.pid, signal.SIGCONT)
    until(lambda: place.fault(look, limits) == "")
    close(listeners)


@pytest.mark.slow
def test_a_job_that_hangs_is_a_fault_until_it_goes_on(place: Place) -> None:
    page, began, go_on = place.worker.page, threading.Event(), threading.Event()

    def hang(_: object) -> dict[str, int]:
        began.set()
        go_on.wait(60)
        return {}

    kinds = {"study": Kind(stages=(("analyse", hang),), at_once=1)}
    url = database_url(place.layout.jobs, None)
    worker, dispatcher = Worker(url, watched(kinds, page), executor_id="test"), Dispatcher(url)
    index = Index(place.layout.index)
    outbox = Outbox(place.layout.outbox, place.layout.results)
    vitals, limits = Vitals(page, index, outbox, dispatcher), Limits(jobs_s=1)

    def fault() -> str:
        vitals.sample()
        return place.fault("jobs", limits)

    assert fault() == ""
    dispatcher.enqueue("study", "study:1", ["1"])
    assert began.wait(60)
    assert "1 s is the limit" in until(fault)
    go_on.set()
    until(lambda: fault() == "")
    assert page.rows(metrics.STAGE_SECONDS)[("analyse",)][-1] > 0.5
    worker.close(timeout_s=5)
    dispatcher.close()
    index.close()
    outbox.close()


def test_a_disk_below_its_low_water_mark_is_a_fault(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    assert Place(tmp_path, free_port()).fault("room") == ""
    place = Place(tmp_path, free_port(), min_free_gib=1e9)
    assert "lower node.min_free_gib" in place.fault("room")


def test_an_inbox_that_cannot_be_written_is_a_fault(place: Place) -> None:
    assert place.fault("inbox") == ""
    shutil.rmtree(place.layout.inbox / "new")
    with pytest.raises(FileNotFoundError):  # which `Watch` tells as a fault
        place.fault("inbox")


def test_a_database_that_somebody_holds_is_a_fault_until_it_is_free(place: Place) -> None:
    assert place.fault("databases") == ""
    with closing(sqlite3.connect(place.layout.index)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert place.fault("databases") == "index.db: database is locked"
    assert place.fault("databases") == ""


def test_a_damaged_and_a_missing_database_are_faults(place: Place) -> None:
    place.layout.outbox.write_bytes(b"no database " * 1000)
    assert place.fault("databases") == "outbox.db: file is not a database"
    place.layout.index.unlink()
    assert place.fault("databases").startswith("index.db is missing; ")


def test_an_expired_certificate_is_a_fault(tmp_path: Path, free_port: Callable[[], int]) -> None:
    made = certificates(tmp_path)
    place = Place(tmp_path, free_port(), tls=made.settings(free_port()))
    assert place.fault("certificate") == ""
    days = (certificate_ends(place) - time.time()) / 86400
    assert days > 30
    ended = made.authority.issue_cert(
        "127.0.0.1", not_after=datetime.now(UTC) - timedelta(minutes=1)
    )
    ended.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    ended.private_key_pem.write_to_path(tmp_path / "node.key")
    assert "node.pem has expired" in place.fault("certificate")
    assert certificate_ends(place) == 0


def certificate_ends(place: Place) -> float:
    found = readings(place.inbox, [], place.config.node.tls)
    [reading] = [reading for reading in found if reading.metric is CERTIFICATE]
    [(_, seconds)] = reading.read()
    return seconds


def test_a_process_that_starts_is_not_late(place: Place) -> None:
    assert place.fault("sweep") == place.fault("accepting") == ""
    assert place.fault("jobs") == ""

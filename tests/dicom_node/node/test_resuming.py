import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from dicom_node.bundle import Bundle
from dicom_node.config import InferSettings
from dicom_node.errors import ModelServerDownError
from dicom_node.infer import Models
from dicom_node.jobs import Dispatcher, Kind, Worker, database_url
from dicom_node.node.resuming import keep_resuming
from dicom_node.records import Task
from tests.support.nodes import until
from tests.support.oip_server import OipServer, oip_server

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import HEIGHT, WIDTH, write_bundle

FRAMES = np.zeros((1, 1, HEIGHT, WIDTH), np.uint8)
#: more than a job whose process is killed again and again would survive
ROUNDS = 25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OipServer]:
    (tmp_path / "bundles").mkdir()
    path = write_bundle(tmp_path / "bundles" / "a.onnx", Task.QUALITY)
    with oip_server() as running:
        running.run = Bundle(path, threads=1).answer
        yield running


@pytest.fixture
def models(tmp_path: Path, server: OipServer) -> Iterator[Models]:
    models = Models(tmp_path / "bundles", InferSettings(url=server.url, threads=1))
    yield models
    models.close()


def is_done(dispatcher: Dispatcher, job_id: str) -> bool:
    job = dispatcher.find(job_id)
    return job is not None and job.status == "SUCCESS"


@contextmanager
def resuming(models: Models, dispatcher: Dispatcher) -> Iterator[None]:
    """Look in the background as the worker does."""
    stop = threading.Event()
    thread = threading.Thread(
        target=keep_resuming, args=(models, dispatcher, stop), kwargs={"pause_s": 0.05}
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_what_was_put_off_goes_on_when_the_server_is_back_however_often_it_was(
    tmp_path: Path, server: OipServer, models: Models
) -> None:
    begun: list[str] = []

    def analyse(arguments: Sequence[str]) -> dict[str, int]:
        begun.append(arguments[0])
        if arguments[0] == "broken":
            raise ValueError("for ever")
        if begun.count("study") < ROUNDS:
            raise ModelServerDownError("busy")
        [model] = models.current()
        return {"answers": len(model.answer(FRAMES))}

    kinds = {"study": Kind(stages=(("analyse", analyse),), at_once=1)}
    url = database_url(tmp_path / "jobs.db", None)
    worker, dispatcher = Worker(url, kinds, executor_id="test"), Dispatcher(url)
    server.ready = False
    for name in ("study", "broken"):
        dispatcher.enqueue("study", name, [name])
    with closing(dispatcher), resuming(models, dispatcher):
        until(lambda: len(dispatcher.failed()) == 2)
        until(lambda: models.fault() != "")
        assert begun.count("study") == 1, "it is not tried on and on while the server is away"
        put_off = {job.job_id: job for job in dispatcher.failed()}["study"]
        assert put_off.is_put_off
        assert "it goes on by itself" in put_off.cure
        server.ready = True
        until(lambda: is_done(dispatcher, "study"))
        assert [job.job_id for job in dispatcher.failed()] == ["broken"]
        assert begun.count("study") == ROUNDS
        assert begun.count("broken") == 1, "that one waits for a person"
    worker.close(timeout_s=5)

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config import Config, InferSettings, NodeSettings, StudySettings
from dicom_node.jobs import Dispatcher, Worker, database_url
from dicom_node.node.layout import Layout
from dicom_node.node.worker import open_parts
from dicom_node.pipeline import Dispatch, Parts, analyse_study, job_kinds
from dicom_node.receive.storing import StoreCommand, Storing
from dicom_node.records import Task
from dicom_node.register import register_waiting
from tests.support.nodes import until
from tests.support.pacs import Pacs, pacs
from tests.support.receiving import EXPLICIT_LE

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.torture.destination import KINDS
from tests.torture.studies import Image, study

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

FIRST, LATE = next(images for number in range(99) if len(images := study(8, number)) == 2)


@pytest.fixture
def peer(free_port: Callable[[], int]) -> Iterator[Pacs]:
    with pacs(free_port(), *KINDS) as running:
        yield running


@pytest.fixture
def parts(tmp_path: Path, peer: Pacs) -> Iterator[Parts]:
    (tmp_path / "bundles").mkdir()
    for task in Task:
        write_bundle(tmp_path / "bundles" / f"{task.value}.onnx", task)
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        study=StudySettings(quiet_s=3600),
        infer=InferSettings(threads=1),
        bundles=tmp_path / "bundles",
        destinations=(peer.destination,),
    )
    with open_parts(config) as opened:
        yield opened


@pytest.fixture
def dispatcher(parts: Parts) -> Iterator[Dispatcher]:
    url = database_url(Layout(parts.config.node.data).jobs, None)
    worker = Worker(url, job_kinds(parts), executor_id="test")
    handing_out = Dispatcher(url)
    yield handing_out
    handing_out.close()
    worker.close(timeout_s=5)


def analyse(parts: Parts, image: Image) -> None:
    """Receive an image and write what the models say of it."""
    command = StoreCommand(
        sop_class_uid=image.sop_class_uid,
        sop_instance_uid=image.sop_instance_uid,
        abstract_syntax_uid=image.sop_class_uid,
        transfer_syntax_uid=EXPLICIT_LE,
        calling_ae_title="PEER",
    )
    storing = Storing(parts.inbox, command)
    storing.write(image.data)
    assert storing.finish().code == 0
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC))
    analyse_study(parts, image.study_instance_uid, "1")


def deliver_until(dispatch: Dispatch, peer: Pacs, count: int) -> None:
    def swept() -> bool:
        dispatch.deliver()
        return len(peer.received) >= count

    until(swept, deadline_s=20)


def test_results_are_handed_out_and_delivered(
    parts: Parts, dispatcher: Dispatcher, peer: Pacs
) -> None:
    dispatch = Dispatch(parts, dispatcher)
    analyse(parts, FIRST)
    deliver_until(dispatch, peer, len(KINDS))
    analyse(parts, LATE)
    deliver_until(dispatch, peer, 2 * len(KINDS))


def test_late_results_do_not_wait_for_the_lease_of_a_job_that_ended_without_one(
    parts: Parts, dispatcher: Dispatcher, peer: Pacs
) -> None:
    analyse(parts, FIRST)
    [errand] = parts.outbox.due(datetime.now(UTC))
    arguments = [errand.study_instance_uid, errand.destination, str(errand.lease)]
    job_id = f"deliver:{errand.destination}:{errand.study_instance_uid}:{errand.lease}"
    # as a worker does that is killed right before it notes the lease; the next one runs the job
    dispatcher.enqueue("deliver", job_id, arguments, partition=errand.destination)
    until(lambda: len(peer.received) == len(KINDS) and not dispatcher.unfinished())
    analyse(parts, LATE)
    deliver_until(Dispatch(parts, dispatcher), peer, 2 * len(KINDS))

"""A destination that is asked to commit to results, with a node as its user runs it."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from dicom_node.outbox import DeliveryRow
from dicom_node.records import Task
from tests.support.committing import Archive, archive
from tests.support.nodes import Node, node_on, send, until
from tests.support.orthanc import orthanc

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
STILL = Path(str(get_testdata_file("examples_palette.dcm")))


@pytest.fixture
def pacs(free_port: Callable[[], int]) -> Iterator[Archive]:
    with archive(free_port(), SEG, SR) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int], pacs: Archive) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), pacs.destination) as configured:
        put_bundle(tmp_path)
        yield configured


def put_bundle(folder: Path) -> None:
    write_bundle(folder / "bundles" / "quality.onnx", Task.QUALITY)


def rows(node: Node) -> list[DeliveryRow]:
    if not node.layout.outbox.exists():
        return []
    with node.outbox() as outbox:
        return outbox.rows()


def is_in(node: Node, state: str) -> bool:
    found = rows(node)
    return bool(found) and {row.state.value for row in found} == {state}


def listed(node: Node, *arguments: str) -> list[dict[str, str]]:
    done = node.cli("queue", "list", "--json", *arguments)
    found: list[dict[str, str]] = json.loads(done.stdout)["deliveries"]
    return found


def test_a_result_is_stored_until_the_report_and_both_survive_kill_9(
    node: Node, pacs: Archive
) -> None:
    node.start()
    assert send([STILL], node.port) == [0]
    until(lambda: pacs.asked and is_in(node, "stored"), why=node.log)
    node.kill()
    [waiting] = listed(node)
    assert (waiting["state"], waiting["destination"], waiting["kind"]) == ("stored", "pacs", "sr")
    node.start()
    assert pacs.report_to(node.port, ae_title="EVIL") == 0x0000
    until(lambda: "commitment report ignored" in node.log, why=node.log)
    assert is_in(node, "stored")
    assert pacs.report_to(node.port) == 0x0000
    until(lambda: is_in(node, "delivered"), why=node.log)
    assert len(pacs.stored) == 1
    assert pacs.report_to(node.port) == 0x0000
    assert is_in(node, "delivered")


def test_killed_between_store_and_report_it_asks_again_and_hears_the_first_answer(
    node: Node, pacs: Archive
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold() -> int:
        asked.set()
        go_on.wait(60)
        return 0x0000

    pacs.answer = hold
    node.start()
    assert send([STILL], node.port) == [0]
    assert asked.wait(60), node.log
    assert is_in(node, "stored"), "the question is on its way"
    node.kill()
    go_on.set()
    pacs.answer = lambda: 0x0000
    node.start()
    until(lambda: len(pacs.asked) == 2, why=node.log)
    assert is_in(node, "stored")
    assert pacs.asked[0].TransactionUID != pacs.asked[1].TransactionUID
    assert pacs.report_to(node.port, question=0) == 0x0000
    until(lambda: is_in(node, "delivered"), why=node.log)
    assert len(pacs.stored) == 1


def test_what_the_pacs_lost_is_sent_again(node: Node, pacs: Archive) -> None:
    node.start()
    assert send([STILL], node.port) == [0]
    until(lambda: pacs.asked and is_in(node, "stored"), why=node.log)
    pacs.failures = dict.fromkeys(pacs.stored, 0x0112)
    assert pacs.report_to(node.port) == 0x0000
    until(lambda: is_in(node, "waiting"), why=node.log)
    [row] = rows(node)
    assert (row.status, row.reason) == (0x0112, "the destination lost it; see its log")
    pacs.failures = {}
    node.cli("queue", "retry")  # 30 s later otherwise
    until(lambda: len(pacs.asked) == 2 and is_in(node, "stored"), why=node.log)
    assert pacs.stored == [row.sop_instance_uid] * 2
    assert pacs.report_to(node.port) == 0x0000
    until(lambda: is_in(node, "delivered"), why=node.log)


@pytest.mark.peers
def test_orthanc_commits_when_it_finds_the_node_and_is_asked_until_then(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program, port, wrong = needs_program("Orthanc"), free_port(), free_port()
    with orthanc(program, tmp_path / "pacs", free_port, node_port=wrong) as pacs:
        asked = {"commitment": True, "commitment_wait_s": 1.0}
        destination = pacs.destination.model_copy(update=asked)
        callers = [{"ae_title": "*", "host": "127.0.0.1"}]
        with node_on(tmp_path, port, destination, callers=callers) as node:
            put_bundle(tmp_path)
            node.start()
            assert send([STILL], port) == [0]
            until(lambda: "without a report" in str(listed(node)), why=node.log)
            assert is_in(node, "stored")
            assert len(pacs.get("/instances")) == 1
            modality = {"AET": "NODE", "Host": "127.0.0.1", "Port": port}
            pacs.put("/modalities/NODE", json.dumps(modality).encode())
            node.cli("queue", "retry")
            until(lambda: is_in(node, "delivered"), why=node.log)
            [instance] = pacs.get("/instances?expand")
            [row] = rows(node)
            assert instance["MainDicomTags"]["SOPInstanceUID"] == row.sop_instance_uid
            assert '"ae_title": "ORTHANC"' in node.log

"""The node learns what its destinations accept, and what arrives follows from it."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_node.config import Config, Destination
from dicom_node.node.asking import keep_asked
from dicom_node.outbox import Outbox
from dicom_node.sop_classes import RESULTS
from tests.support.nodes import Node, node_on, send, until
from tests.support.pacs import pacs

pytestmark = pytest.mark.dimse
SR, SC = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
CINE = "1.2.840.10008.5.1.4.1.1.7.4"
SYNTAXES = (ExplicitVRLittleEndian, JPEGBaseline8Bit)
REFUSED = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@contextmanager
def asking(outbox: Outbox, *destinations: Destination, ask_s: float) -> Iterator[None]:
    """Ask in the background as the worker does."""
    stop = threading.Event()
    config = Config(destinations=destinations)
    pauses = {"ask_s": ask_s, "ask_again_s": 0.05}
    thread = threading.Thread(target=keep_asked, args=(config, outbox, stop), kwargs=pauses)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


@REFUSED
def test_one_that_is_down_is_asked_until_it_answers_and_keeps_no_other_waiting(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with pacs(free_port(), SC) as up, pacs(free_port()) as gone:
        away = gone.destination.model_copy(update={"name": "away"})
    with (
        closing(Outbox(tmp_path / "outbox.db", tmp_path)) as outbox,
        pacs(up.destination.port, SC) as up,
        asking(outbox, away, up.destination, ask_s=3600),
    ):
        until(lambda: outbox.capabilities.of("pacs", up.destination.address))
        assert outbox.capabilities.of("away", away.address) == {}
        with pacs(away.port, SR):
            answers = until(lambda: outbox.capabilities.of("away", away.address))
        assert {uid for uid, yes in answers.items() if yes} == {SR}
        assert up.associations == 1


def test_a_pacs_that_learns_a_class_is_believed_after_the_next_question(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    with closing(Outbox(tmp_path / "outbox.db", tmp_path)) as outbox:
        with pacs(port, SC) as peer, asking(outbox, peer.destination, ask_s=3600):
            before = until(lambda: outbox.capabilities.of("pacs", peer.destination.address))
        with pacs(port, SC, SR) as peer, asking(outbox, peer.destination, ask_s=3600):
            until(lambda: outbox.capabilities.of("pacs", peer.destination.address)[SR])
    assert (before[SR], before[SC]) == (False, True)


def told(node: Node, command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "dicom_node", command, "--json"]
    return subprocess.run(words, cwd=node.folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_pacs_without_seg_and_sr_gets_pictures_and_status_says_why(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    pytest.importorskip("onnx", reason="needs the train group: make test installs it")
    from dicom_node.records import Task  # noqa: PLC0415
    from tests.support.analyses import STILL, pydicom_file  # noqa: PLC0415
    from tests.support.bundles import write_bundle  # noqa: PLC0415

    with (
        pacs(free_port(), SC, CINE, transfer_syntaxes=SYNTAXES) as peer,
        node_on(tmp_path, free_port(), peer.destination, quiet_s=0.5) as node,
    ):
        write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
        node.start()
        answers = until(lambda: json.loads(told(node, "status").stdout)["destinations"])
        accepted = {row["sop_class"] for row in answers if row["accepted"]}
        assert accepted == {RESULTS[SC], RESULTS[CINE]}
        assert len(answers) == len(RESULTS)
        send([pydicom_file(STILL)], node.port)
        [picture] = until(lambda: peer.received)
        assert picture.SOPClassUID == SC
        [row] = json.loads(told(node, "check").stdout)[-1:]
        assert row["fault"] == ""
        assert row["found"].endswith("accepts SC")


def test_check_calls_it_a_fault_when_the_ladder_has_no_rung(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with pacs(free_port(), SR) as peer, node_on(tmp_path, free_port(), peer.destination) as node:
        done = told(node, "check")
    assert done.returncode == 1
    row = json.loads(done.stdout)[-1]
    assert row["what"] == "destination pacs"
    assert "accepts neither SEG nor" in row["fault"]
    assert "fallback: pr, sc" in row["fault"]

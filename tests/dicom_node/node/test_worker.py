import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dicom_node.node.worker import NICENESS
from tests.support.nodes import Node, node_on, until

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

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from dicom_node.config import Destination
from tests.support.certificates import certificates
from tests.support.nodes import Node, node_on, until
from tests.torture.checks import unexpected_ends
from tests.torture.destination import Archive
from tests.torture.harness import Outcome
from tests.torture.killing import Tally
from tests.torture.modalities import Ledger
from tests.torture.report import rows

ENDED = '"event": "child ended, starting it again"'


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    tls = certificates(tmp_path).settings(free_port()).model_dump(mode="json")
    with node_on(tmp_path, free_port(), tls=tls) as configured:
        yield configured


@pytest.mark.dimse
@pytest.mark.slow
def test_a_kill_is_expected_and_a_process_that_fails_or_ends_otherwise_is_not(node: Node) -> None:
    node.start()
    kill_children(node)
    assert unexpected_ends(node.log) == []
    until(lambda: len(children(node)) == 2, why=node.log)
    (node.folder / "node.key").unlink()  # without it no receiver can start
    kill_children(node)
    until(lambda: node.log.count(ENDED) == 5, why=node.log)
    failed, ended = unexpected_ends(node.log)
    assert '"cause": "ConfigError"' in failed
    assert '"status": 1' in ended


@pytest.mark.parametrize(("refused", "is_met"), [([], True), (["a port is taken"], False)])
def test_a_start_that_was_refused_fails_a_run(refused: list[str], is_met: bool) -> None:
    destination = Destination(name="none", ae_title="NONE", host="127.0.0.1", port=1)
    outcome = Outcome(
        seed=0,
        tally=Tally(refused=refused),
        ledger=Ledger(),
        archive=Archive(destination=destination),
        reports=0,
        studies=0,
        seconds=1.0,
        quiet_s=1.0,
        faults={},
    )
    [row] = [row for row in rows(outcome, kills=0) if row.row == "starts that were refused"]
    assert row.met is is_met


def kill_children(node: Node) -> None:
    before = node.log.count(ENDED)
    for child in children(node):
        child.kill()
    until(lambda: node.log.count(ENDED) == before + 2, why=node.log)


def children(node: Node) -> list[psutil.Process]:
    """Return worker and receiver; multiprocessing's own helper has another command line."""
    return [p for p in node.processes()[1:] if "spawn_main" in " ".join(p.cmdline())]

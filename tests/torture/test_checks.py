from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from dicom_node.config import Destination
from tests.support.certificates import certificates
from tests.support.nodes import Node, node_on, until
from tests.torture.checks import hidden, repeated, unexpected_ends
from tests.torture.destination import Archive
from tests.torture.harness import Outcome
from tests.torture.killing import Tally
from tests.torture.modalities import Ledger
from tests.torture.report import rows
from tests.torture.studies import study

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


STILL_A, STILL_B, CINE = "1.1", "1.2", "1.3"


def told_of(*segs: tuple[str, str, int, set[str]]) -> tuple[Ledger, Archive]:
    """Return two stills and a cine that were sent, and SEGs: UID, series, number, images."""
    archive = Archive(destination=Destination(name="n", ae_title="N", host="127.0.0.1", port=1))
    for uid, series, number, images in segs:
        archive.places[uid] = series, number
        for image in images:
            archive.results.setdefault((image, "seg"), set()).add(uid)
    sent = {STILL_A: 1, STILL_B: 1, CINE: 5}
    images = [image for number in range(99) for image in study(1, number)]
    by_frames = {image.frames: image for image in images}
    return Ledger(images={uid: by_frames[frames] for uid, frames in sent.items()}), archive


def test_versions_of_the_seg_of_stills_are_not_said_twice() -> None:
    ledger, archive = told_of(("v1", "s", 1, {STILL_A}), ("v2", "s", 2, {STILL_A, STILL_B}))
    assert [*repeated(ledger, archive), *hidden(ledger, archive)] == []


def test_a_still_that_is_not_in_the_last_version_is_found_out() -> None:
    ledger, archive = told_of(("v1", "s", 1, {STILL_A}), ("v2", "s", 2, {STILL_B}))
    assert list(hidden(ledger, archive)) == [f"{STILL_A} is not in the last SEG of its series"]


@pytest.mark.parametrize(
    "segs",
    [
        (("v1", "s", 1, {STILL_A}), ("w1", "t", 1, {STILL_A})),
        (("v1", "s", 1, {STILL_A}), ("w1", "s", 1, {STILL_A})),
        (("v1", "s", 1, {CINE}), ("v2", "s", 2, {CINE})),
    ],
    ids=["another series", "the same number", "a cine"],
)
def test_what_is_said_twice_is_found_out(segs: tuple[tuple[str, str, int, set[str]], ...]) -> None:
    ledger, archive = told_of(*segs)
    assert len(list(repeated(ledger, archive))) == 1


def kill_children(node: Node) -> None:
    before = node.log.count(ENDED)
    for child in children(node):
        child.kill()
    until(lambda: node.log.count(ENDED) == before + 2, why=node.log)


def children(node: Node) -> list[psutil.Process]:
    """Return worker and receiver; multiprocessing's own helper has another command line."""
    return [p for p in node.processes()[1:] if "spawn_main" in " ".join(p.cmdline())]

"""Two nodes, one PostgreSQL server, one PACS; each node has its own disk."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.outbox import DeliveryState
from dicom_node.receive.storing import StoreCommand, file_meta
from dicom_node.records import Task
from dicom_node.roster import NodeRow, Roster
from tests.support.nodes import Node, node_on, until
from tests.support.orthanc import Orthanc, orthanc

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.torture.destination import KINDS
from tests.torture.studies import Image, study

pytestmark = [pytest.mark.dimse, pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(1800)]

STUDIES = [study(11, number) for number in range(6)]
IMAGES = [image for images in STUDIES for image in images]
DEAD_AFTER_S = 15.0
DEADLINE_S = 600.0


@contextmanager
def member(
    folder: Path, name: str, port: int, pacs: Orthanc, database: str, *, quiet_s: float
) -> Iterator[Node]:
    """Configure a node ``NODE_<name>`` of the database."""
    destination = pacs.destination
    with node_on(folder, port, destination, quiet_s=quiet_s, ae_title=f"NODE_{name}") as node:
        tree = yaml.safe_load((folder / "node.yaml").read_text())
        tree["node"] |= {"name": name.lower(), "dead_after_s": DEAD_AFTER_S}
        tree["study"]["fetch_from"] = {
            "ae_title": destination.ae_title,
            "host": destination.host,
            "port": destination.port,
        }
        tree["database"] = database
        (folder / "node.yaml").write_text(yaml.safe_dump(tree))
        for task in (Task.SEGMENTATION, Task.QUALITY):
            write_bundle(folder / "bundles" / f"{task.value}.onnx", task)
        yield node


@pytest.fixture
def site(
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    postgres_url: str,
) -> Iterator[tuple[Orthanc, Node, Node]]:
    """Return the PACS and two nodes; none of them has a study, and no node runs."""
    ports = {"NODE_A": free_port(), "NODE_B": free_port()}
    with ExitStack() as stack:
        pacs = stack.enter_context(
            orthanc(
                needs_program("Orthanc"),
                tmp_path / "pacs",
                free_port,
                node_port=ports["NODE_A"],
                others=ports,
            )
        )
        a, b = (
            stack.enter_context(
                member(
                    tmp_path / name,
                    name,
                    ports[f"NODE_{name}"],
                    pacs,
                    postgres_url,
                    quiet_s=quiet_s,
                )
            )
            # A waits so long that everything is there before it begins
            for name, quiet_s in (("A", 5.0), ("B", 1.0))
        )
        yield pacs, a, b


def start(*nodes: Node) -> None:
    for node in nodes:
        node.launch()
    for node in nodes:
        eventually(lambda node=node: events(node, "ready"), node)


def events(node: Node, event: str) -> list[dict[str, Any]]:
    whole = [line for line in node.log.splitlines() if line.startswith("{") and line.endswith("}")]
    return [found for line in whole if (found := json.loads(line))["event"] == event]


def upload(pacs: Orthanc, folder: Path, images: list[Image]) -> list[str]:
    """Store images in the PACS; return its names of them."""
    names = []
    for image in images:
        command = StoreCommand(
            sop_class_uid=image.sop_class_uid,
            sop_instance_uid=image.sop_instance_uid,
            abstract_syntax_uid=image.sop_class_uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae_title="MODALITY",
        )
        path = folder / f"{image.sop_instance_uid}.dcm"
        path.write_bytes(file_meta(command) + image.data)
        names.append(pacs.upload(path))
    return names


def eventually(what: Callable[[], Any], node: Node | None = None) -> Any:
    """Wait longer than elsewhere: two nodes, a PACS and a server share the machine."""
    try:
        return until(what, deadline_s=DEADLINE_S)
    except AssertionError:
        raise AssertionError("" if node is None else node.log) from None


def held(pacs: Orthanc) -> int:
    """Return how many instances the PACS has."""
    return len(pacs.get("/instances"))


def results(pacs: Orthanc) -> dict[str, tuple[str, str]]:
    """Return the results that the PACS has: SOP Instance UID to (kind, series)."""
    found = {}
    for one in pacs.get("/instances"):
        header = pacs.get(f"/instances/{one}/simplified-tags")
        if header["SOPClassUID"] in KINDS:
            series = header["SeriesInstanceUID"]
            found[header["SOPInstanceUID"]] = (KINDS[header["SOPClassUID"]], series)
    return found


def row_of(roster: Roster, name: str) -> NodeRow | None:
    return next((row for row in roster.nodes() if row.name == name), None)


def unfinished(roster: Roster, name: str) -> int:
    row = row_of(roster, name)
    return -1 if row is None else row.unfinished


def listed(roster: Roster, image: Image) -> int:
    """Return of how many instances of a study A has said that it has them."""
    found = roster.find("a", image.study_instance_uid)
    return 0 if found is None else found.instances


def is_at_rest(node: Node) -> bool:
    """Whether each study of the node is finished and delivered."""
    studies = {image.study_instance_uid for image in IMAGES}
    with node.outbox() as outbox:
        waiting = outbox.counts()[DeliveryState.WAITING]
    return not waiting and node.finished(*studies)


def every_result_once(pacs: Orthanc) -> dict[str, tuple[str, str]]:
    """Wait for an SR of every image and each SEG, and see that there is no second one."""
    # the stills of a study share one
    with_stills = sum(any(image.frames == 1 for image in images) for images in STUDIES)
    segs = with_stills + sum(image.frames > 1 for image in IMAGES)
    expected = len(IMAGES) + segs
    eventually(lambda: held(pacs) >= len(IMAGES) + expected)
    found = results(pacs)
    assert Counter(kind for kind, _ in found.values()) == {"seg": segs, "sr": len(IMAGES)}
    # whatever is said of an image by one model, or by the report, has a series of its own
    assert len({series for _, series in found.values()}) == expected
    return found


def test_a_node_that_is_killed_for_good_has_its_studies_finished_by_the_other(
    site: tuple[Orthanc, Node, Node], tmp_path: Path, postgres_url: str
) -> None:
    pacs, a, b = site
    names = upload(pacs, tmp_path, IMAGES)
    start(a, b)
    with closing(Roster(postgres_url, "watcher")) as roster:
        pacs.push(*names, to="NODE_A")
        eventually(lambda: unfinished(roster, "a") == len(STUDIES), a)
        eventually(lambda: held(pacs) > len(IMAGES), a)
        a.kill()
        assert unfinished(roster, "a") > 0, "it was killed too late"
        found = every_result_once(pacs)
        eventually(lambda: unfinished(roster, "a") == 0, b)
        dead = row_of(roster, "a")
        assert dead is not None
        assert dead.taken > 0
        assert dead.claimed_by == "b"
        status = json.loads(b.cli("status", "--json").stdout)
        [other] = status["other_nodes"]
        assert (other["name"], other["is_dead"]) == ("a", True)
        assert other["studies_taken_over"] == dead.taken
        assert "node a (NODE_A) is dead" in b.cli("status").stdout
        assert status["counts"]["jobs_unfinished"] == 0

        a.launch()
        eventually(lambda: is_at_rest(a), a)
        eventually(lambda: row_of(roster, "a").taken == 0, a)  # type: ignore[union-attr]
        assert every_result_once(pacs) == found
        assert (a.stop(), b.stop()) == (0, 0)


def test_what_no_pacs_has_stays_with_the_dead_node_and_is_said(
    site: tuple[Orthanc, Node, Node], tmp_path: Path, postgres_url: str
) -> None:
    pacs, a, b = site
    images = next(images for images in STUDIES if len(images) > 1)[:2]
    names = upload(pacs, tmp_path, images)
    start(a)
    with closing(Roster(postgres_url, "watcher")) as roster:
        pacs.push(*names, to="NODE_A")
        eventually(lambda: listed(roster, images[0]) == 2, a)
        a.kill()
        pacs.delete(f"/instances/{names[0]}")
        start(b)
        [said] = eventually(lambda: events(b, "study not taken over"), b)
        assert said["reason"].startswith("ORTHANC has 1 of its 2 instances; start a again")
        [dead] = events(b, "node is dead")
        assert (dead["what"], dead["ae_title"]) == ("a", "NODE_A")
        assert unfinished(roster, "a") == 1
        assert "has 1 of its 2 instances" in " ".join(b.cli("status").stdout.split())
        assert b.stop() == 0

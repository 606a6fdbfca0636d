"""``dicom-node harvest`` against real archives, beside a node that runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("dicomweb_client", reason="needs dicomweb-client: make test installs it")
from tests.support.archived import PATIENT, Stored, dcmqrscp, fill, write_study
from tests.support.nodes import Node, node_on, until
from tests.support.orthanc import orthanc

pytestmark = [pytest.mark.dimse, pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]

JANUARY = ("--since", "2024-01-01", "--until", "20240103")


@pytest.fixture
def needed(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> tuple[Path, Callable[[], int], Callable[[str], str]]:
    return tmp_path, free_port, needs_program


@contextmanager
def site(
    needed: tuple[Path, Callable[[], int], Callable[[str], str]],
    way: str,
    studies: list[Stored],
    **settings: Any,
) -> Iterator[Node]:
    """Run an archive that has the studies, and a node that knows it as ``pacs``."""
    folder, free_port, needs_program = needed
    own = free_port()
    peer, _, retrieve = way.partition("-")
    archive = {"name": "pacs", "host": "127.0.0.1", "retrieve": retrieve, "timeout_s": 20}
    if peer == "dcmqrscp":
        running = dcmqrscp(needs_program("dcmqrscp"), folder / "pacs", free_port, node_port=own)
        with running as port:
            fill(port, studies)
            archive |= {"ae_title": "PACS", "port": port}
            with _node(folder, own, archive) as node:
                yield node
        return
    program = needs_program("Orthanc")
    web_user = "node:word" if peer == "web" else ""
    with orthanc(
        program, folder / "pacs", free_port, node_port=own, web_user=web_user, configured=settings
    ) as pacs:
        for study in studies:
            for file in study.files:
                pacs.upload(file)
        if peer == "web":
            (folder / "word").write_text("word")
            url = f"http://127.0.0.1:{pacs.http_port}/dicom-web"
            archive = {"name": "pacs", "kind": "dicomweb", "url": url}
            archive |= {"user": "node", "password_file": "../word"}
        else:
            archive |= {"ae_title": "ORTHANC", "port": pacs.dicom_port, "longest_answer": 4}
        with _node(folder, own, archive) as node:
            yield node


@contextmanager
def _node(folder: Path, port: int, archive: dict[str, Any]) -> Iterator[Node]:
    with node_on(folder / "node", port) as node:
        configured = folder / "node" / "node.yaml"
        tree = yaml.safe_load(configured.read_text()) | {"archives": [archive]}
        configured.write_text(yaml.safe_dump(tree))
        node.start()
        yield node
        assert PATIENT not in node.log


def harvest(node: Node, *arguments: str, status: int = 0) -> dict[str, Any]:
    done = node.cli("harvest", "--from", "pacs", *arguments, "--json")
    assert done.returncode == status, done.stderr
    assert PATIENT not in done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def instances(node: Node, *studies: Stored) -> set[str]:
    with node.index() as index:
        return {one.sop_instance_uid for study in studies for one in index.instances(study.uid)}


@pytest.mark.parametrize(
    "way", ["orthanc-get", "orthanc-move", "web", "dcmqrscp-get", "dcmqrscp-move"]
)
def test_what_an_archive_has_comes_once_and_takes_the_way_of_what_is_sent(
    needed: tuple[Path, Callable[[], int], Callable[[str], str]], way: str
) -> None:
    folder = needed[0]
    wanted = [write_study(folder / "files", n, day=f"2024010{n}", images=3) for n in (1, 2)]
    later = write_study(folder / "files", 5, day="20240201")
    kidney = write_study(folder / "files", 6, description="US KIDNEY")
    with site(needed, way, [*wanted, later, kidney]) as node:
        liver = (*JANUARY, "--modality", "US", "--description", "us liv*")
        # whose case an archive may hold against it
        found = harvest(node, *JANUARY, "--modality", "US", "--description", "US LIV*")
        assert (found["found"], found["whole"], found["instances"]) == (2, 2, 6)
        assert (found["asked_for"], found["lacks"], found["cut"]) == (6, [], [])
        assert instances(node, *wanted) == set.union(*(one.instances for one in wanted))
        assert instances(node, later, kidney) == set()
        again = harvest(node, *liver)
        assert again["asked_for"] == 0
        everything = harvest(node, *JANUARY)
        assert (everything["found"], everything["whole_before"]) == (3, 2)
        assert everything["asked_for"] == 2
        until(lambda: node.finished(*(one.uid for one in (*wanted, kidney))), deadline_s=300)


def test_an_archive_that_cuts_its_answers_short_is_asked_by_the_hour(
    needed: tuple[Path, Callable[[], int], Callable[[str], str]],
) -> None:
    studies = [
        write_study(needed[0] / "files", n, day="20240102", time=f"{n:02}1500", images=1)
        for n in range(7)
    ]
    with site(needed, "orthanc-get", studies, LimitFindResults=4) as node:
        found = harvest(node, "--since", "2024-01-02", "--until", "2024-01-02")
    assert (found["found"], found["whole"], found["cut"]) == (7, 7, [])


def test_killed_in_the_middle_it_goes_on_with_what_lacks(
    needed: tuple[Path, Callable[[], int], Callable[[str], str]],
) -> None:
    studies = [write_study(needed[0] / "files", n, time=f"{n:02}1500", images=2) for n in range(8)]
    with site(needed, "orthanc-get", studies, LimitFindResults=0) as node:
        slowly = ["--from", "pacs", *JANUARY, "--studies-per-minute", "60"]
        command = [sys.executable, "-m", "dicom_node", "harvest", *slowly]
        process = subprocess.Popen(
            [*command, "--config", str(node.folder / "node.yaml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda: len(instances(node, *studies)) >= 4, deadline_s=300)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not list((node.layout.inbox / "new").iterdir()), deadline_s=300)
        here = len(instances(node, *studies))
        assert 4 <= here < 16
        found = harvest(node, *JANUARY)
        assert (found["whole"], found["asked_for"]) == (8, 16 - here)
        assert len(instances(node, *studies)) == 16


def test_a_node_that_does_not_run_is_said(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with node_on(tmp_path, free_port()) as node:
        tree = yaml.safe_load((tmp_path / "node.yaml").read_text())
        tree["archives"] = [{"name": "pacs", "ae_title": "P", "host": "127.0.0.1", "port": 1}]
        (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree))
        done = node.cli("harvest", "--from", "pacs", *JANUARY)
    assert done.returncode == 1
    assert "dicom-node serve" in done.stderr


def test_a_folder_s_files_take_the_same_way(tmp_path: Path, free_port: Callable[[], int]) -> None:
    study = write_study(tmp_path / "files" / "deep", 1, images=3)
    (tmp_path / "files" / "report.pdf").write_bytes(b"%PDF-1.7")
    with node_on(tmp_path / "node", free_port()) as node:
        node.start()
        done = node.cli("harvest", str(tmp_path / "files"), "--json")
        assert done.returncode == 0, done.stderr
        files = json.loads(done.stdout)["files"]
        assert (files["taken"], files["no DICOM"]) == (3, 1)
        until(lambda: instances(node, study) == study.instances, deadline_s=300)
        until(lambda: node.finished(study.uid), deadline_s=300)
        assert PATIENT not in node.log + done.stderr + done.stdout

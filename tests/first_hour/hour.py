"""The first hour with a node, step by step, as the README tells it.

Only commands that a user gives are used: dicom-node and DCMTK's storescu, on a fresh folder with a
copy of deploy/node.yaml. The PACS is the demo's stand-in; it is switched off for one study.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread, dcmwrite

from dicom_node.demo.peers import RESULT_CLASSES
from dicom_node.demo.ports import free_port
from dicom_node.outbox import DeliveryState
from dicom_node.phantom.study import cohort, write_study
from dicom_node.records import Task
from tests.support.bundles import write_bundle
from tests.support.conformance import REPOSITORY, table
from tests.support.nodes import Node, until
from tests.support.pacs import pacs

SCANNER, PACS = "SCANNER1", "PACS"
#: As no map knows it.
DESCRIPTION: Final = "WARD 7 SPECIAL"
PATIENTS: Final = 12
#: What pretraining is made small by; each is a word of `train pretrain --help`.
TRIAL: Final = (
    *("--encoder", "small", "--encoder-width", "4", "--epochs", "1", "--batch-size", "8"),
    *("--height", "64", "--width", "64", "--accelerator", "cpu", "--precision", "32-true"),
)
#: Of a wait; a busy machine needs it.
LONGEST_S: Final = 200.0
#: Patients fall into training and validation by it: another key, other sides.
KEY: Final = "00" * 31 + "02"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: what was wanted, what was typed, how long it took, what was seen."""

    want: str
    typed: str
    seconds: float
    seen: str


@dataclass
class FirstHour:
    """A fresh folder, and what was done in it so far."""

    folder: Path
    storescu: str
    quiet_s: float = 1.0
    steps: list[Step] = field(default_factory=list)
    #: Modality of each object that the PACS got
    received: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("node", "pacs", "web", "page")}
    )

    def __post_init__(self) -> None:
        self.node = Node(folder=self.folder, port=self.ports["node"])

    def run(self, *, with_training: bool = True) -> None:
        """Do all of it; a step that goes wrong ends it with what was printed."""
        *first, second, third = self._examinations()
        with ExitStack() as stack:
            with self._pacs():
                self._configure()
                self._check()
                stack.enter_context(self._served())
                self._route(first)
                self._see(second)
            self._miss(third)
            with self._pacs():
                self._mend()
            self._map()
            if with_training:
                self._train()

    def _configure(self) -> None:
        with self._timed("configure", "cp deploy/node.yaml node.yaml; mkdir bundles") as seen:
            text = (REPOSITORY / "deploy" / "node.yaml").read_text("utf-8")
            for old, new in (
                ("port: 11112", f"port: {self.ports['node']}"),
                ("{ae_title: ORTHANC, host: 127.0.0.1}", f"{{ae_title: {SCANNER}, host: '*'}}"),
                ("quiet_s: 30 ", f"quiet_s: {self.quiet_s:g} "),
                ("dimse, ae_title: ORTHANC", f"dimse, ae_title: {PACS}"),
                ("port: 4242, send", f"port: {self.ports['pacs']}, send"),
                ("port: 9112", f"port: {self.ports['web']}"),
                ("port: 9180", f"port: {self.ports['page']}"),
            ):
                assert old in text, f"deploy/node.yaml has no {old!r} to be edited any more"
                text = text.replace(old, new, 1)
            # nothing is pulled in this hour
            text = re.sub(r"^archives:.*?^web:", "archives: []\nweb:", text, flags=re.M | re.S)
            (self.folder / "node.yaml").write_text(text, "utf-8")
            (self.folder / "bundles").mkdir()
            (self.folder / "node-data").mkdir(mode=0o700)
            key = self.folder / "node-data" / "pseudonym.key"
            key.touch(mode=0o600)
            key.write_text(KEY)
            seen.append("a caller, a destination, no archive")
        with self._timed("let somebody look", "dicom-node page user add ann --role admin") as seen:
            words = ("page", "user", "add", "ann", "--role", "admin", "--password-stdin")
            self._node(*words, typed=f"{secrets.token_urlsafe(16)}\n")
            seen.append("ann may log in")

    def _check(self) -> None:
        with self._timed("is it right?", "dicom-node check") as seen:
            found = json.loads(self._node("check", "--json"))
            seen.append(f"{len(found)} findings, no fault")

    @contextmanager
    def _served(self) -> Iterator[None]:
        try:
            with self._timed("start", "dicom-node serve") as seen:
                self.node.start()
                health = f"http://127.0.0.1:{self.ports['web']}/healthz"
                with urllib.request.urlopen(health, timeout=30) as answer:
                    seen.append(f"/healthz says {answer.status}")
            yield
        finally:
            if self.node.process is not None:
                self.node.stop()

    def _route(self, files: Sequence[Path]) -> None:
        with self._timed("route studies", f"storescu -aet {SCANNER} ...") as seen:
            self._store(files)
            seen.append(f"{len(files)} images acknowledged")
        with self._timed("they are complete and harvested", "dicom-node store info") as seen:
            self._until(lambda: self.node.finished(*map(_study_of, files)))
            frames = json.loads(self._node("store", "info", "--json"))["frames"]
            assert frames == len(files)
            seen.append(f"{frames} frames in the store")

    def _see(self, file: Path) -> None:
        typed = "cp liver.onnx bundles; storescu; dicom-node status STUDY"
        with self._timed("see a result", typed) as seen:
            write_bundle(self.folder / "bundles" / "liver.onnx", Task.SEGMENTATION)
            self._store([file])
            self._until(lambda: self.node.finished(_study_of(file)) and not self._owed())
            said = self._node("status", _study_of(file))
            for step in ("complete", "harvested", "inferred", "delivered"):
                assert step in said, said
            seen.append("complete, harvested, inferred, delivered")

    def _miss(self, file: Path) -> None:
        self._store([file])
        self._until(lambda: self.node.finished(_study_of(file)) and self._owed())
        with self._timed("find a failed delivery", "dicom-node queue list") as seen:
            rows = self._until(lambda: [row for row in self._queue() if row["reason"]])
            seen.append(f"{rows[0]['state']}: {rows[0]['reason']}")

    def _mend(self) -> None:
        with self._timed("mend it", "dicom-node queue retry") as seen:
            self._node("queue", "retry")
            self._until(lambda: not self._owed())
            seen.append("delivered")

    def _map(self) -> None:
        with self._timed("map a description", "dicom-node labels unmapped, map") as seen:
            listed = self._node("labels", "unmapped")
            assert DESCRIPTION in listed, listed
            self._node("labels", "map", DESCRIPTION, "liver; abdomen")
            left = self._node("labels", "unmapped")
            assert DESCRIPTION not in left, left
            seen.append("mapped, and the store relabelled")

    def _train(self) -> None:
        run = self.folder / "runs" / "ce"
        words = ("train", "pretrain", "--recipe", "ce", "--out", str(run))
        with self._timed("start a training", "dicom-node train pretrain, tiny") as seen:
            self._node(*words, *TRIAL)
            assert any(run.iterdir())
            seen.append("an epoch, and a run's folder")

    def _examinations(self) -> list[Path]:
        """Draw what a scanner would send, an image each; the first has the site's own words."""
        drawn = [
            instance.path
            for spec in cohort(seed=7, patients=PATIENTS, stills=1)
            for instance in write_study(self.folder / "scanner" / f"{spec.patient:02d}", spec)
        ]
        data_set = dcmread(drawn[0])
        data_set.StudyDescription = DESCRIPTION
        dcmwrite(drawn[0], data_set, enforce_file_format=True)
        return drawn

    @contextmanager
    def _pacs(self) -> Iterator[None]:
        with pacs(self.ports["pacs"], *RESULT_CLASSES, ae_title=PACS) as running:
            yield
        self.received += [str(one.Modality) for one in running.received]

    def _queue(self) -> list[dict[str, Any]]:
        found: dict[str, list[dict[str, Any]]] = json.loads(self._node("queue", "list", "--json"))
        return found["deliveries"]

    def _until(self, what: Callable[[], Any]) -> Any:
        return until(what, deadline_s=LONGEST_S, why=f"see {self.folder / 'log-0'}")

    def _owed(self) -> int:
        with self.node.outbox() as outbox:
            return outbox.counts()[DeliveryState.WAITING]

    def _store(self, files: Sequence[Path]) -> None:
        words = [self.storescu, "-aet", SCANNER, "-aec", "DICOM_NODE", "127.0.0.1"]
        subprocess.run(
            [*words, str(self.ports["node"]), *map(str, files)],
            check=True,
            env=os.environ | {"TCP_NODELAY": "1"},
        )

    def _node(self, *words: str, typed: str = "") -> str:
        done = self.node.cli(*words, typed=typed)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def _timed(self, want: str, typed: str) -> Iterator[list[str]]:
        seen: list[str] = []
        began = time.monotonic()
        yield seen
        took = time.monotonic() - began
        self.steps.append(Step(want=want, typed=typed, seconds=took, seen="; ".join(seen)))

    def table(self) -> str:
        """What was done, for docs and terminals."""
        rows = (
            (step.want, f"`{step.typed}`", f"{step.seconds:.1f} s", step.seen)
            for step in self.steps
        )
        return table("what|command|took|seen", rows)


def found_storescu() -> str | None:
    """Return DCMTK's own: an environment of Python may hide it behind pynetdicom's."""
    return shutil.which("storescu", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")


def words_of_readme() -> set[str]:
    """Return the commands of dicom-node that the README names."""
    text = (REPOSITORY / "README.md").read_text("utf-8")
    return set(re.findall(r"dicom-node ((?:[a-z]+ ?){1,2})", text))


def _study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)

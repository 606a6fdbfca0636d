"""A node as its user runs it: a process, a configuration file, a data folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.config import Config, Destination, load
from dicom_node.index import Index
from dicom_node.node.layout import Layout
from dicom_node.outbox import Outbox

DEADLINE_S = 60.0


def until(what: Callable[[], Any], *, deadline_s: float = DEADLINE_S, why: str = "") -> Any:
    """Wait for something to be true and return it."""
    end = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < end, f"it did not happen in {deadline_s:g} s {why}"
        time.sleep(0.05)
    return value


@dataclass
class Node:
    """A node that runs, or ran, on a folder."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    highest_rss_bytes: int = 0
    #: on top of this process's
    environment: dict[str, str] = field(default_factory=dict)
    _logs: list[Path] = field(default_factory=list)

    @property
    def config(self) -> Config:
        return load(self.folder / "node.yaml")

    @property
    def layout(self) -> Layout:
        return Layout(self.config.node.data)

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self._logs)

    @property
    def last_words(self) -> str:
        """The last line of the latest log."""
        return (self._logs[-1].read_text().splitlines() or [""])[-1]

    def start(self) -> None:
        self.launch()
        until(self._is_ready, why=self.log)

    def launch(self) -> None:
        """Start it and wait for nothing."""
        path = self.folder / f"log-{len(self._logs)}"
        self._logs.append(path)
        command = [
            sys.executable,
            "-m",
            "dicom_node",
            "serve",
            "-c",
            str(self.folder / "node.yaml"),
        ]
        with path.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=os.environ | self.environment,
            )

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return '"event": "ready"' in self._logs[-1].read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End every process of the node at once, as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> list[psutil.Process]:
        assert self.process is not None
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def watch_memory(self) -> None:
        """Take note of the largest resident process."""
        for process in self.processes():
            try:
                rss = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.highest_rss_bytes = max(self.highest_rss_bytes, rss)

    @contextmanager
    def index(self) -> Iterator[Index]:
        index = Index(self.layout.index)
        yield index
        index.close()

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        outbox = Outbox(self.layout.outbox, self.layout.results)
        yield outbox
        outbox.close()

    def finished(self, *studies: str) -> bool:
        """Whether these studies were worked on to their end."""
        with self.index() as index:
            return all(index.is_finished(study) for study in studies)

    def cli(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dicom_node", *arguments]
        return subprocess.run(
            [*command, "--config", str(self.folder / "node.yaml")],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def node_on(
    folder: Path, port: int, *destinations: Destination, quiet_s: float = 1, **settings: Any
) -> Iterator[Node]:
    """Configure a node on `folder`; the caller starts it, it is ended at the end."""
    tree: dict[str, Any] = {
        "node": {
            "ae_title": "NODE",
            "port": port,
            "data": "./data",
            "processes": 1,
            "min_free_gib": 0,
            "callers": [{"ae_title": "*", "host": "*"}],
        },
        "study": {"quiet_s": quiet_s},
        "bundles": "./bundles",
        "destinations": [d.model_dump(mode="json") for d in destinations],
    }
    tree["node"].update(settings)
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    (folder / "node.yaml").write_text(yaml.safe_dump(tree))
    node = Node(folder=folder, port=port)
    try:
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()


def send(files: Sequence[Path], port: int, ae_title: str = "TESTER") -> list[int | None]:
    """Send files in their own transfer syntaxes over one association; return the statuses."""
    datasets = [dcmread(file) for file in files]
    wanted = {(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets}
    ae = AE(ae_title=ae_title)
    ae.requested_contexts = [build_context(*context) for context in sorted(wanted)]
    assoc = ae.associate("127.0.0.1", port, ae_title="NODE")
    assert assoc.is_established
    statuses = [assoc.send_c_store(ds).get("Status") for ds in datasets]
    assoc.release()
    return statuses

"""The receivers that are compared, each started as its user would start it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from dicom_node.demo.ports import free_port
from tests.support.orthanc import orthanc

#: DCMTK leaves Nagle's algorithm on: without this every C-STORE may wait for 44 ms.
_NODELAY = {"TCP_NODELAY": "1"}
_START_S = 60.0
_END_S = 30.0
_PROGRAMS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A receiver that takes associations."""

    port: int
    process: psutil.Process
    #: where what it keeps lies; None keeps nothing
    kept: Path | None
    #: processes that stay frozen and do not count
    held: tuple[psutil.Process, ...] = ()
    ae_title: str = "ANY"
    #: of the node: the file that its worker holds open
    worker_lock: str | None = None
    #: of the node: where its harvest goes
    store: Path | None = None
    #: by process id, as they are found
    roles: dict[int, str] = field(default_factory=dict)


Start = Callable[[Path], AbstractContextManager[Running]]


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """One of the compared."""

    name: str
    title: str
    start: Start
    is_node: bool = False
    #: measures the sender or the machine: speaks no more DICOM than it must
    is_yardstick: bool = False
    #: why it cannot run here
    missing: str | None = None


def receivers(limit: Path | None) -> list[Receiver]:
    """Return all of them; `limit` is the compiled `limit.c`."""
    storescp, is_there = _program("storescp"), _program("Orthanc")
    dcmtk_missing = None if storescp else "DCMTK is missing: apt-get install dcmtk"
    word = "C" if limit else "Python, as there is no C compiler"
    return [
        Receiver(
            name="node",
            title="dicom-node",
            is_node=True,
            start=node,
        ),
        Receiver(
            name="node-harvest",
            title="dicom-node, harvesting",
            is_node=True,
            start=lambda folder: node(
                folder, {"harvest": {"enabled": True}, "study": {"quiet_s": 1.0}}
            ),
        ),
        Receiver(
            name="node-receivers",
            title="dicom-node, worker frozen",
            is_node=True,
            start=lambda folder: node(folder, holds_worker=True),
        ),
        Receiver(
            name="storescp",
            title="DCMTK storescp --fork",
            missing=dcmtk_missing,
            start=lambda folder: _storescp(str(storescp), folder),
        ),
        Receiver(
            name="orthanc",
            title="Orthanc",
            missing=None if is_there else "Orthanc is missing: apt-get install orthanc",
            start=lambda folder: _orthanc(str(is_there), folder),
        ),
        Receiver(
            name="pynetdicom",
            title="pynetdicom storescp",
            start=_pynetdicom,
        ),
        Receiver(
            name="limit",
            is_yardstick=True,
            title=f"physical limit ({word})",
            start=lambda folder: _limit(limit, folder, folder / "limit"),
        ),
        Receiver(
            name="sink",
            is_yardstick=True,
            title=f"sender into a sink ({word})",
            start=lambda folder: _limit(limit, folder, None),
        ),
        Receiver(
            name="storescp-ignore",
            is_yardstick=True,
            title="sender into storescp --ignore",
            missing=dcmtk_missing,
            start=lambda folder: _storescp(str(storescp), folder, ignores=True),
        ),
    ]


def compiled_limit(folder: Path) -> Path | None:
    """Compile `limit.c`; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "limit"
    source = Path(__file__).with_suffix("").parent / "limit.c"
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


@contextmanager
def node(
    folder: Path, changes: Mapping[str, Any] | None = None, *, holds_worker: bool = False
) -> Iterator[Running]:
    """Run a node on ``node-data`` in a folder, which may be there already."""
    port, data = free_port(), folder / "node-data"
    settings = {
        "node": {
            "port": port,
            "data": str(data),
            "callers": [{"ae_title": "PEER", "host": "127.0.0.1"}],
        },
        "bundles": None,
        "harvest": {"enabled": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.yaml").write_text(yaml.safe_dump(settings | dict(changes or {})))
    words = [sys.executable, "-m", "dicom_node", "serve", "-c", str(folder / "node.yaml")]
    lock = str(data / "worker.lock")
    with _started(words, folder, '"event": "ready"') as root:
        held = (_holder(root, lock),) if holds_worker else ()
        for process in held:
            process.suspend()
        yield Running(
            port=port,
            process=root,
            kept=data / "inbox",
            held=held,
            ae_title="DICOM_NODE",
            worker_lock=lock,
            store=data / "store",
        )


def _holder(root: psutil.Process, lock: str) -> psutil.Process:
    """Return the process that holds the worker's lock."""
    return next(
        child
        for child in root.children(recursive=True)
        if any(file.path == lock for file in child.open_files())
    )


@contextmanager
def _orthanc(program: str, folder: Path) -> Iterator[Running]:
    with orthanc(program, folder, free_port, node_port=free_port()) as running:
        settings = str(folder / "orthanc.json")
        process = next(
            child for child in psutil.Process().children() if settings in child.cmdline()
        )
        yield Running(port=running.dicom_port, process=process, kept=folder / "db")


@contextmanager
def _storescp(program: str, folder: Path, *, ignores: bool = False) -> Iterator[Running]:
    kept = folder / "kept"
    kept.mkdir(parents=True)
    port = free_port()
    words = [program, "--fork", "+B", "+xa", "-pm", "-pdu", "131072"]
    words += ["--ignore"] if ignores else ["-od", str(kept)]
    with _started([*words, str(port)], folder, port, _NODELAY) as process:
        yield Running(port=port, process=process, kept=None if ignores else kept)


@contextmanager
def pacs_elsewhere(folder: Path) -> Iterator[Running]:
    """Run a storage SCP in a process of its own, DCMTK's where it is installed."""
    folder.mkdir(parents=True)
    program = _program("storescp")
    running = _storescp(str(program), folder / "dcmtk") if program else _pynetdicom(folder / "py")
    with running as started:
        yield started


@contextmanager
def _pynetdicom(folder: Path) -> Iterator[Running]:
    kept = folder / "kept"
    kept.mkdir(parents=True)
    port = free_port()
    words = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(kept)]
    with _started(words, folder, port) as process:
        yield Running(port=port, process=process, kept=kept)


@contextmanager
def _limit(program: Path | None, folder: Path, kept: Path | None) -> Iterator[Running]:
    folder.mkdir(parents=True)
    for name in ("tmp", "new"):
        if kept is not None:
            (kept / name).mkdir(parents=True)
    port = free_port()
    words = [str(program)] if program else [sys.executable, "-m", "tests.benchmarks.limit"]
    with _started([*words, str(port), str(kept or "-")], folder, port) as process:
        yield Running(port=port, process=process, kept=kept)


@contextmanager
def _started(
    words: list[str], folder: Path, ready: int | str, environment: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Run a program until it listens on the port, or says the word, `ready`; end it at last."""
    path = folder / "log"
    with path.open("wb") as log:
        process = psutil.Popen(
            words, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )
    try:
        deadline = time.monotonic() + _START_S
        while not _is_ready(process, ready, path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} did not start: {path.read_text()[-2000:]}")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        _end(process)


def _is_ready(process: psutil.Process, ready: int | str, log: Path) -> bool:
    if isinstance(ready, str):
        return ready in log.read_text()
    # it is not troubled with a connection
    return any(
        connection.laddr.port == ready and connection.status == psutil.CONN_LISTEN
        for connection in process.net_connections(kind="tcp")
    )


def _end(process: psutil.Popen) -> None:
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.resume()
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=_END_S)
    for one in alive:
        one.kill()
    psutil.wait_procs(alive, timeout=_END_S)


def _program(name: str) -> str | None:
    # an active virtual environment hides DCMTK's storescp behind pynetdicom's
    return shutil.which(name, path=_PROGRAMS)

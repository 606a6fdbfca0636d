"""The systemd unit: what systemd says of it, and what it says of the node."""

import http.server
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.node.serve import GRACE_S

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "deploy" / "dicom-node.service"
TEXT = UNIT.read_text("utf-8")
EXAMPLE = config.load(REPOSITORY / "deploy" / "node.yaml")
assert EXAMPLE.web is not None
HEALTHZ = f"http://{EXAMPLE.web.bind}:{EXAMPLE.web.port}/healthz"
#: of 10; systemd calls what is below 2 fit
MOST_EXPOSED = 2.0


def value_of(key: str) -> str:
    [found] = re.findall(rf"^{key}=(.*)$", TEXT, re.MULTILINE)
    return str(found)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with programs that this machine has."""
    path = tmp_path / UNIT.name
    text = TEXT.replace("/opt/dicom-node/bin/dicom-node", sys.executable)
    path.write_text(text.replace("/usr/bin/curl", sys.executable))
    return path


def test_systemd_has_nothing_to_say_against_it(
    unit: Path, needs_program: Callable[[str], str]
) -> None:
    command = [needs_program("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, about) == (0, [])


def test_systemd_calls_it_little_exposed(unit: Path, needs_program: Callable[[str], str]) -> None:
    command = [needs_program("systemd-analyze"), "security", "--offline=true", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    [level] = re.findall(r"exposure level for \S+: ([0-9.]+)", done.stdout) or ["none"]
    if level == "none":
        pytest.skip("this systemd looks at running units alone")
    assert float(level) < MOST_EXPOSED


def test_it_gives_the_node_the_time_and_the_memory_that_it_may_take() -> None:
    assert float(value_of("TimeoutStopSec")) > EXAMPLE.node.drain_s + GRACE_S
    infer = EXAMPLE.infer
    needed_mib = infer.memory_mib + 2 * infer.decode_memory_mib + 1024
    assert 1024 * int(value_of("MemoryMax").removesuffix("G")) >= needed_mib
    # a connection is a file, and so is what comes over it
    connections = EXAMPLE.node.processes * (2 * EXAMPLE.node.max_associations + 16)
    assert int(value_of("LimitNOFILE")) >= 2 * connections
    assert int(value_of("TasksMax")) >= connections


def test_it_asks_healthz_where_the_example_serves_it() -> None:
    assert f" {HEALTHZ};" in value_of("ExecStartPost")


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[int]]]:
    """Yield the address of a server that answers with one status after the other, and which."""
    said: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.append(statuses[min(len(said), len(statuses) - 1)])
            self.send_response(said[-1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/healthz", said
        finally:
            server.shutdown()
            thread.join()


def is_started(address: str, pid: int) -> bool:
    """Run what systemd runs to see whether the node has started."""
    words = shlex.split(value_of("ExecStartPost").replace("$$", "$").replace(HEALTHZ, address))
    environment = os.environ | {"MAINPID": str(pid)}
    return subprocess.run(words, env=environment, check=False, capture_output=True).returncode == 0


@pytest.mark.alone
def test_it_waits_for_a_node_that_runs_and_for_none_that_ended(
    needs_program: Callable[[str], str],
) -> None:
    needs_program("curl")
    with answering(503, 200) as (address, said):
        assert is_started(address, os.getpid())
        assert said == [503, 200]
    ended = subprocess.Popen(["true"])
    ended.wait()
    with answering(503) as (address, said):
        assert not is_started(address, ended.pid)
        assert said == [503]


def test_a_node_that_cannot_use_its_configuration_ends_with_the_status_that_is_not_tried_again(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "dicom_node", "serve", "--config", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == int(value_of("RestartPreventExitStatus"))

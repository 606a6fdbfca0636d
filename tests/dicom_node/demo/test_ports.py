import multiprocessing
import socket
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dicom_node.demo import ports
from dicom_node.demo.ports import free_port

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_port_is_given_twice_and_each_can_be_had() -> None:
    found = [free_port() for _ in range(50)]
    assert len(set(found)) == 50
    for port in found:
        with socket.create_server(("127.0.0.1", port)):
            pass


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux says which ports connections get")
def test_no_outgoing_connection_gets_such_a_port() -> None:
    first = int(RANGE.read_text().split()[0])
    if first <= 20_000:
        pytest.skip(f"this machine gives connections the ports from {first} on")
    assert max(ports._PORTS) < first


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_PORTS", range(port, port + 1))
        monkeypatch.setattr(ports, "_given", set())
        with pytest.raises(OSError, match=f"no free port from {port} to {port}"):
            free_port()


def take_and_hold(given: Connection, port: int) -> None:
    ports._PORTS = range(port, port + 1)  # type: ignore[misc]
    given.send(free_port())
    given.recv()


def test_a_port_that_another_process_got_is_not_given_as_long_as_that_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = multiprocessing.get_context("spawn")
    given, theirs = context.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]  # none of those that were given here
    other = context.Process(target=take_and_hold, args=(theirs, port))
    other.start()
    assert given.recv() == port
    monkeypatch.setattr(ports, "_PORTS", range(port, port + 1))
    with pytest.raises(OSError, match=f"no free port from {port} to {port}"):
        free_port()
    given.send("enough")
    other.join(30)
    assert free_port() == port

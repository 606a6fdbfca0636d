"""The metrics of a running node: whatever happens to it, they balance."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from pydicom import Dataset

from tests.support.faults import MOMENTS, POINTS, RECEIVER, Fault, Faults
from tests.support.nodes import Node, node_on, until
from tests.support.receiving import (
    US_IMAGE,
    RawPeer,
    p_data,
    store_command,
)
from tests.support.scrapes import health, imbalance, scrape, total, watched

pytestmark = [pytest.mark.dimse, pytest.mark.slow]


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Node]:
    with node_on(tmp_path, free_port(), processes=2) as configured:
        yield configured


@pytest.fixture
def address(node: Node, free_port: Callable[[], int]) -> str:
    return watched(node, free_port())


def image(folder: Path, number: int, **attributes: str) -> tuple[bytes, bytes]:
    """Return the SOP Instance UID and the data set of a small image."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = US_IMAGE, f"1.2.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.1"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    path = folder / "made"
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return ds.SOPInstanceUID.encode(), path.read_bytes()


def begin_a_transfer(peer: RawPeer, number: int) -> None:
    """Send a command and a part of its data set."""
    peer.associate()
    peer.send(p_data(3, store_command(f"1.2.9.{number}".encode())))
    peer.send(p_data(0, b"\0" * 4096))


def receiver_of(node: Node, peer: RawPeer) -> int:
    """Return the process that a peer is connected with."""
    port = peer.socket.getsockname()[1]
    for process in node.processes():
        for connection in process.net_connections("tcp"):
            if connection.raddr and connection.raddr.port == port:
                return process.pid
    raise AssertionError("no process of the node has this connection")


def is_quiet(address: str) -> dict[str, float] | None:
    numbers = scrape(address)
    return None if numbers["in_flight"] or numbers["inbox_waiting"] else numbers


def at_rest(address: str) -> dict[str, float] | None:
    numbers = is_quiet(address)
    return None if numbers is None or imbalance(numbers) else numbers


def test_received_is_kept_refused_aborted_and_quarantined_also_after_kill_9(
    node: Node, address: str, tmp_path: Path
) -> None:
    node.start()
    with RawPeer(node.port) as peer:
        peer.associate()
        for number in range(5):
            assert peer.store(*image(tmp_path, number)) == 0
        assert peer.store(*image(tmp_path, 0)) == 0
        assert peer.store(*image(tmp_path, 1, PatientID="other")) == 0
        assert peer.store(b"1.2.3.77", b"no data set at all") == 0
        assert peer.store(b"no UID", b"\0" * 300_000) == 0x0117
    with RawPeer(node.port) as peer:
        begin_a_transfer(peer, 1)
    with RawPeer(node.port) as dying, RawPeer(node.port) as with_it:
        begin_a_transfer(dying, 2)
        begin_a_transfer(with_it, 3)
        until(lambda: scrape(address)["in_flight"] == 2)
        os.kill(receiver_of(node, dying), signal.SIGKILL)
    until(lambda: total(scrape(address), "process_restarts_total") == 1, why=node.log)
    until(lambda: total(scrape(address), "process_ready") == 3, why=node.log)
    with RawPeer(node.port) as peer:
        peer.associate()
        assert peer.store(*image(tmp_path, 100)) == 0
    numbers = until(lambda: at_rest(address), why=node.log)
    expected = {
        "received_total": 13,
        "stored_total": 9,
        "kept_total new": 6,
        "kept_total duplicate": 1,
        "quarantined_total conflict": 1,
        "quarantined_total unreadable": 1,
        "refused_total 0117": 1,
        "aborted_total": 3,
    }
    assert {name: numbers[name] for name in expected} == expected
    with node.index() as index:
        assert index.counts()["instances"] == 6


def test_what_waited_when_the_node_started_balances_too(
    node: Node, address: str, tmp_path: Path
) -> None:
    node.start()
    with RawPeer(node.port) as peer:
        peer.associate()
        for number in range(3):
            assert peer.store(*image(tmp_path, number)) == 0
        node.kill()
    node.start()
    numbers = until(lambda: at_rest(address), why=node.log)
    assert numbers["received_total"] == 0
    assert numbers["adopted_total"] == total(numbers, "kept_total")


def test_a_kill_right_before_or_after_the_rename_counts_the_transfer_once(
    node: Node, address: str, tmp_path: Path
) -> None:
    faults = Faults(tmp_path / "faults")
    node.environment = faults.environment
    node.start()
    rename = next(p for p in POINTS if (p.role, p.function) == (RECEIVER, "Disk.rename"))
    for number, moment in enumerate(MOMENTS):
        faults.arm(Fault(number=number, point=rename, moment=moment))
        with RawPeer(node.port) as peer:
            peer.associate()
            with pytest.raises((OSError, AssertionError)):  # nobody is there to answer
                peer.store(*image(tmp_path, number))
        until(
            lambda done=number + 1: total(scrape(address), "process_restarts_total") == done,
            why=node.log,
        )
    numbers = until(lambda: at_rest(address), why=node.log)
    # the first lay in tmp/ as what was counted, the second was in the waiting line
    expected = {"received_total": 2, "aborted_total": 1, "kept_total new": 1}
    assert {name: numbers[name] for name in expected} == expected


def test_kills_at_any_moment_under_load_leave_the_books_in_balance(
    node: Node, address: str, tmp_path: Path
) -> None:
    node.start()
    images = [image(tmp_path, number, PatientComments="x" * 200) for number in range(400)]
    ended = threading.Event()
    senders = [
        threading.Thread(target=send_until, args=(node.port, images, ended)) for _ in range(3)
    ]
    for sender in senders:
        sender.start()
    try:
        for goal in range(20, 140, 20):
            until(partial(has_stored, address, goal), why=node.log)
            until(lambda: receivers(node))[0].kill()
    finally:
        ended.set()
        for sender in senders:
            sender.join(60)
    until(partial(is_quiet, address), why=node.log[-2000:])
    # what left the line this moment is counted the next
    until(partial(at_rest, address), deadline_s=10, why=str(is_quiet(address)))
    numbers = scrape(address)
    assert numbers["received_total"] >= numbers["stored_total"] >= 120


def has_stored(address: str, count: int) -> bool:
    return scrape(address)["stored_total"] >= count


def receivers(node: Node) -> list[psutil.Process]:
    """Return the children that listen; the supervisor holds the socket too."""
    return [process for process in node.processes()[1:] if listens(process, node.port)]


def listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(
            connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
            for connection in process.net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False


def send_until(port: int, images: list[tuple[bytes, bytes]], ended: threading.Event) -> None:
    """Send again and again, whatever becomes of the connection."""
    at = 0
    while not ended.is_set():
        try:
            with RawPeer(port) as peer:
                peer.socket.settimeout(5)
                peer.associate()
                while not ended.is_set():
                    peer.store(*images[at % len(images)])
                    at += 1
        except (OSError, AssertionError):
            at += 1
            ended.wait(0.05)


def test_the_node_is_well_until_something_is_wrong_and_says_what(node: Node, address: str) -> None:
    node.start()
    until(lambda: health(address)[0] == 200, why=str(health(address)))
    receivers(node)[0].kill()
    found = until(lambda: [h for h in [health(address)] if h[0] == 503])
    assert "receiver" in found[0][1]["receivers"]
    until(lambda: health(address)[0] == 200, why=node.log)
    assert node.stop() == 0

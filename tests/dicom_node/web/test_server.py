import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from dicom_node.metrics import RECEIVED, Page
from dicom_node.web import Check, Health, registry, served
from dicom_node.web.server import REQUEST_S, THREADS

GOOD = Check(name="disk", healthy=True, fault="", cure="")
BAD = Check(name="port", healthy=False, fault="nobody answers", cure="restart it")


class Site:
    """A served site whose health a test decides."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.page = Page()
        self.health = Health(checks=(GOOD,))

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=20
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


@pytest.fixture
def site(free_port: Callable[[], int]) -> Iterator[Site]:
    site = Site(free_port())
    with served("127.0.0.1", site.port, registry([site.page], []), lambda: site.health):
        yield site


def test_a_scrape_gives_the_numbers_of_this_moment(site: Site) -> None:
    site.page.add(RECEIVED, by=5)
    status, body = site.get("/metrics")
    assert status == 200
    assert b"dicom_node_received_total 5.0" in body


def test_a_healthy_node_answers_200_and_a_sick_one_503_with_the_cure(site: Site) -> None:
    status, body = site.get("/healthz")
    assert (status, json.loads(body)["healthy"]) == (200, True)
    site.health = Health(checks=(GOOD, BAD))
    status, body = site.get("/healthz")
    assert (status, json.loads(body)["healthy"]) == (503, False)
    assert json.loads(body)["checks"][1]["cure"] == "restart it"


def test_what_is_not_there_is_not_found(site: Site) -> None:
    assert site.get("/")[0] == 404
    assert site.get("/metrics/../../etc/passwd")[0] == 404


def test_the_port_is_free_again_when_the_site_ends(free_port: Callable[[], int]) -> None:
    port = free_port()
    for _ in range(2):
        with served("127.0.0.1", port, registry([Page()], []), lambda: Health(checks=())):
            assert Site(port).get("/healthz")[0] == 200


def test_ipv6_is_served_too(free_port: Callable[[], int]) -> None:
    port = free_port()
    try:
        socket.create_server(("::1", port), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with (
        served("::1", port, registry([Page()], []), lambda: Health(checks=())),
        urllib.request.urlopen(f"http://[::1]:{port}/healthz", timeout=20) as answer,
    ):
        assert answer.status == 200


@pytest.mark.slow
def test_slow_clients_are_cut_off_and_never_hold_more_than_their_threads(site: Site) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        slow = [stack.enter_context(site.connect()) for _ in range(4 * THREADS)]
        started = time.monotonic()
        ended = threading.Event()
        dripping = threading.Thread(target=drip, args=(slow, ended))
        dripping.start()
        assert threading.active_count() <= before + 1 + THREADS
        closed_s = [wait_for_end(connection, started) for connection in slow]
        ended.set()
        dripping.join()
    assert max(closed_s) < REQUEST_S + 2
    assert site.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0" * 100_000,
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /healthz HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["zeros", "long line", "many headers", "endless body", "TLS"],
)
def test_nonsense_costs_only_its_sender(site: Site, nonsense: bytes) -> None:
    with site.connect() as connection:
        try:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed already: as good
        wait_for_end(connection, time.monotonic())
    assert site.get("/healthz")[0] == 200


def drip(connections: list[socket.socket], ended: threading.Event) -> None:
    """Send one byte at a time of a request that never ends."""
    while not ended.wait(0.5):
        for connection in connections:
            try:
                connection.send(b"G")
            except OSError:
                continue


def wait_for_end(connection: socket.socket, started: float) -> float:
    """Return the seconds since `started` when the server closed the connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started

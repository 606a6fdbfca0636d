"""Who is slow or silent keeps nobody else out of the page."""

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from dicom_node.listeners import open_port
from dicom_node.page import patience
from dicom_node.page.run import MOST_CONNECTIONS, run
from tests.support.page import node_in

DEADLINE_S = 30.0
HEAD = b"GET /login HTTP/1.1\r\nHost: node\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ncsrf="

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the page of a node as its process does."""
    config = node_in(tmp_path_factory.mktemp("node"))
    ready, stop = threading.Event(), threading.Event()
    with open_port("127.0.0.1", 0) as listener:
        # its connections inherit it: else the system takes some MB for who does not read
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        page = threading.Thread(target=run, args=(config, ready, stop, listener))
        page.start()
        try:
            assert ready.wait(DEADLINE_S)
            yield listener.getsockname()[1]
        finally:
            stop.set()
            page.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)


def status_of(port: int) -> int:
    with urlopen(f"http://127.0.0.1:{port}/login", timeout=DEADLINE_S) as answer:
        return int(answer.status)


def is_hung_up_on(peer: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing is answered."""
    try:
        return peer.recv(1) == b""
    except ConnectionError:
        return True


def test_more_silent_connections_than_there_are_places_keep_nobody_out(port: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(MOST_CONNECTIONS + 20)]
        assert status_of(port) == 200
        assert is_hung_up_on(silent[0]), "the one that was waited for the longest"
        silent[-1].sendall(HEAD + b"\r\n")
        assert silent[-1].recv(12) == b"HTTP/1.1 200", "who came last has a place"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "begun", [b"", HEAD, HEAD.replace(b"GET", b"POST") + FORM], ids=["silence", "head", "form"]
)
def test_a_request_that_does_not_come_to_its_end_is_waited_for_so_long(
    port: int, begun: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(port) as peer:
        peer.sendall(begun)
        assert is_hung_up_on(peer)
    assert status_of(port) == 200
    assert "page failed" not in capsys.readouterr().err, "it is no fault of the program"


@pytest.mark.usefixtures("impatient")
def test_a_head_that_comes_drop_by_drop_wins_no_time(port: int) -> None:
    with connected(port) as peer:
        peer.sendall(HEAD)
        peer.settimeout(0.1)
        for number in range(int(DEADLINE_S / 0.1)):
            try:
                peer.sendall(b"X-%d: 1\r\n" % number)
                assert peer.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                pass
            return
        raise AssertionError("it was waited for")


@pytest.mark.usefixtures("impatient")
def test_who_asks_and_does_not_read_is_hung_up_on(port: int) -> None:
    with socket.socket() as peer, pytest.raises(ConnectionError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(DEADLINE_S)
        peer.connect(("127.0.0.1", port))
        for _ in itertools.count():
            peer.sendall(b"GET /static/page.css HTTP/1.1\r\nHost: node\r\n\r\n" * 100)


@pytest.mark.usefixtures("impatient")
def test_who_reads_slowly_and_asks_again_stays(port: int) -> None:
    with connected(port) as peer:
        for _ in range(3):
            peer.sendall(HEAD + b"\r\n")
            assert peer.recv(12) == b"HTTP/1.1 200"
            peer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                while peer.recv(65536):
                    pass
            peer.settimeout(DEADLINE_S)

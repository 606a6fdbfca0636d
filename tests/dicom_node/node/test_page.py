"""The page's process under the supervisor."""

import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
import trustme
import yaml

from dicom_node.config import load
from dicom_node.errors import ConfigError
from dicom_node.listeners import open_port
from dicom_node.node.page import page_process
from tests.support.nodes import Node, until

pytestmark = pytest.mark.alone


def configured(folder: Path, page: dict[str, Any], port: int) -> Path:
    node = {"data": "./data", "port": port, "processes": 1, "min_free_gib": 0, "drain_s": 1}
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump({"node": node, "page": page}))
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[ssl.SSLContext]:
    """Write page.pem and page.key; return the context of a browser that knows their authority."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "page.pem")
    issued.private_key_pem.write_to_path(tmp_path / "page.key")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    yield context


def test_a_page_that_was_killed_comes_back_over_tls_and_the_node_goes_on(
    tmp_path: Path, free_port: Callable[[], int], certificate: ssl.SSLContext
) -> None:
    port, page_port = free_port(), free_port()
    files = {"certificate": "page.pem", "key": "page.key"}
    configured(tmp_path, {"port": page_port, "tls": files}, port)
    node = Node(folder=tmp_path, port=port)
    try:
        node.start()

        def asked() -> str:
            address = f"https://127.0.0.1:{page_port}/login"
            with urllib.request.urlopen(address, context=certificate, timeout=30) as answer:
                assert "max-age=" in answer.headers["Strict-Transport-Security"]
                assert "; Secure" in answer.headers["Set-Cookie"]
                return str(answer.read())

        assert "dicom-node page user add" in asked()
        assert "nobody can log in yet" in node.log
        before = page_of(node, page_port)
        before.kill()
        # whoever asks meanwhile waits on the supervisor's socket
        assert "Log in" in asked()
        assert page_of(node, page_port).pid != before.pid
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        assert node.stop() == 0
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()
    assert node.log.count('"page ready"') == 2
    assert "Traceback" not in node.log


def page_of(node: Node, port: int) -> psutil.Process:
    """Return the process that answers for the page; the supervisor holds its port as well."""

    def found() -> psutil.Process | None:
        for process in node.processes()[1:]:
            if any(one.laddr.port == port for one in process.net_connections("tcp")):
                return process
        return None

    process: psutil.Process = until(found)
    return process


def refused(path: Path) -> str:
    context = get_context("spawn")
    with pytest.raises(ConfigError) as caught, page_process(load(path), context, Event()):
        raise AssertionError("it was opened")
    return str(caught.value)


def test_a_port_that_is_taken_is_said_before_anything_starts(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.node.page._WAIT_S", 0.0)
    port = free_port()
    path = configured(tmp_path, {"port": port}, free_port())
    with open_port("127.0.0.1", port):
        assert f"page.port: 127.0.0.1:{port} cannot be used" in refused(path)


def test_tls_files_that_will_not_do_are_said_before_anything_starts(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    files = {"certificate": "none.pem", "key": "none.key"}
    path = configured(tmp_path, {"port": free_port(), "tls": files}, free_port())
    assert refused(path).startswith(f"page.tls: {tmp_path / 'none.pem'}")

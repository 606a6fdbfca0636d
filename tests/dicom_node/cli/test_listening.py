import http.server
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.cli.listening import tls, web
from dicom_node.config import Config, NodeSettings, WebSettings
from dicom_node.metrics import Page
from dicom_node.web import Check, Health, registry, served
from tests.support.certificates import Certificates, certificates


def watched(port: int) -> Config:
    return Config(web=WebSettings(port=port))


def test_without_settings_both_are_off() -> None:
    assert web(Config()) == [("web", "", "off: neither metrics nor health are served")]
    assert tls(Config()) == [("tls", "", "off: DIMSE goes in the clear")]


def test_a_free_port_is_good(free_port: Callable[[], int]) -> None:
    port = free_port()
    assert web(watched(port)) == [("web", "", f"127.0.0.1:{port} is free")]


@pytest.mark.parametrize("healthy", [True, False])
def test_a_node_that_runs_is_asked_how_it_is(free_port: Callable[[], int], healthy: bool) -> None:
    port = free_port()
    found = Health(checks=(Check(name="disk", healthy=healthy, fault="", cure=""),))
    with served("127.0.0.1", port, registry([Page()], []), lambda: found):
        [(_, fault, said)] = web(watched(port))
    assert fault == ""
    assert said.endswith("the node is healthy" if healthy else "the node is not healthy")


def test_somebody_else_on_the_port_is_a_fault(free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        silent.listen(0)
        port = silent.getsockname()[1]
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        other = server.server_address[1]
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        faults = [web(watched(number))[0][1] for number in (port, other)]
        thread.join()
        server.server_close()
    assert all("choose a free port" in fault for fault in faults)


def node_with(made: Certificates, port: int) -> Config:
    return Config(node=NodeSettings(tls=made.settings(port)))


def test_a_certificate_says_how_long_it_is_good(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    [(_, fault, found)] = tls(node_with(made, 2762))
    assert fault == ""
    assert "warning" not in found
    soon = made.authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=9.5))
    soon.private_key_and_cert_chain_pem.write_to_path(tmp_path / "node.pem")
    soon.private_key_pem.write_to_path(tmp_path / "node.key")
    [(_, fault, found)] = tls(node_with(made, 2762))
    assert fault == ""
    assert "good for 9 days" in found
    assert "warning" in found


def test_an_expired_certificate_is_a_fault(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    ended = made.authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1))
    ended.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    ended.private_key_pem.write_to_path(tmp_path / "node.key")
    [(_, fault, _)] = tls(node_with(made, 2762))
    assert "has expired" in fault

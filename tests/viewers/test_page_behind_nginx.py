"""The page behind nginx, as docs/page.md sets it up: nginx asks who it is."""

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from dicom_node.demo.ports import free_port
from dicom_node.page.people import opened
from dicom_node.page_settings import Role
from tests.support.nodes import Node, until
from tests.support.page import PASSWORD, node_in

pytest.importorskip("playwright", reason="needs the test group: make test installs it")
from tests.support.engineer import chromium, engineer

pytestmark = [
    pytest.mark.viewers,
    pytest.mark.dimse,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def page_port(tmp_path: Path) -> Iterator[int]:
    """Run a node whose page believes loopback."""
    with opened(node_in(tmp_path)) as users:
        users.add("ann", Role.ADMIN, None)
    port, page = free_port(), free_port()
    tree = {
        "node": {"data": "./data", "port": port, "processes": 1, "min_free_gib": 0},
        "page": {"port": page, "trusted_proxy": {"addresses": ["127.0.0.1"]}},
    }
    (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree))
    node = Node(folder=tmp_path, port=port)
    try:
        node.start()
        until(lambda: '"page ready"' in node.log, why=node.log)
        yield page
    finally:
        node.kill()


@pytest.fixture
def address(tmp_path: Path, page_port: int, needs_program: Callable[[str], str]) -> Iterator[str]:
    """Return where nginx serves the page with the block of docs/page.md."""
    text = (REPOSITORY / "docs" / "page.md").read_text("utf-8")
    [block] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    block = block.replace("127.0.0.1:9180", f"127.0.0.1:{page_port}")
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()  # noqa: S324
    (tmp_path / "users.htpasswd").write_text(
        "".join(f"{name}:{{SHA}}{digest}\n" for name in ("ann", "ben"))
    )
    port = free_port()
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/nginx.pid;\n"
        f"error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{\n{temporary}access_log off;\n"
        f"server {{ listen 127.0.0.1:{port};\n{block}}}\n}}\n"
    )
    # the log's own place is opened before the settings are read
    log = ["-e", str(tmp_path / "error.log")]
    command = [needs_program("nginx"), *log, "-c", str(tmp_path / "nginx.conf")]
    with subprocess.Popen(command) as process:
        try:
            until((tmp_path / "nginx.pid").exists)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_who_nginx_let_in_is_in_and_others_are_named_and_kept_out(
    address: str, tmp_path: Path, needs_program: Callable[[str], str]
) -> None:
    with ExitStack() as stack:
        browser = stack.enter_context(chromium(needs_program("chromium")))

        def somebody(name: str) -> str:
            credentials = {"username": name, "password": PASSWORD}
            someone = stack.enter_context(
                engineer(browser, address, tmp_path, http_credentials=credentials)
            )
            # as who follows a link of another site: a cookie of Strict is not sent to it
            someone.page.goto("data:text/html,<p>a page of another site")
            someone.page.evaluate(f"location.href = '{address}/queue'")
            someone.page.wait_for_selector("h1:has-text('Queue'), h1:has-text('Forbidden')")
            return someone.page.inner_text("body")

        words = somebody("ann")
        assert "ann (admin)" in words
        assert "Destinations" in words
        assert "ben may not come in" in somebody("ben")

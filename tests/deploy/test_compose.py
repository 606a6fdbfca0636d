"""The containers of deploy/compose.yaml know each other, and the network knows only DICOM."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
import yaml

from dicom_node import config
from dicom_node.config import Destination
from dicom_node.node.serve import GRACE_S
from tests.support.nodes import Node, until
from tests.support.ohif import SETTINGS, VERSION
from tests.support.orthanc import orthanc
from tests.support.page import PASSWORD

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODE = config.load(DEPLOY / "compose" / "node.yaml")
DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")
ORTHANC: dict[str, Any] = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text("utf-8"))


def test_it_is_what_the_compose_specification_allows() -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="needs the test group: make test installs it"
    )
    pytest.importorskip("check_jsonschema", reason="needs the test group: make test installs it")
    shipped = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(shipped.read_text("utf-8"))
    faults = jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)
    assert [fault.message for fault in faults] == []


def test_what_it_builds_mounts_and_asks_for_is_there() -> None:
    for service in SERVICES.values():
        if "build" in service:
            root = DEPLOY / service["build"]["context"]
            assert (root / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
        assert {*service.get("depends_on", ())} <= {*SERVICES}
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    example = (DEPLOY / "compose" / "example.env").read_text("utf-8")
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert asked == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))


def test_only_dicom_is_published_beyond_this_machine() -> None:
    open_ports = {
        name: [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")]
        for name, service in SERVICES.items()
    }
    assert {name: ports for name, ports in open_ports.items() if ports} == {
        "node": [f"{NODE.node.port}:{NODE.node.port}"],
        "orthanc": [f"{ORTHANC['DicomPort']}:{ORTHANC['DicomPort']}"],
    }


def test_node_and_pacs_know_each_other_by_name_port_and_ae_title() -> None:
    [destination] = NODE.destinations
    assert isinstance(destination, Destination)
    assert destination.host in SERVICES
    assert destination.ae_title == ORTHANC["DicomAet"]
    assert destination.port == ORTHANC["DicomPort"]
    [caller] = NODE.node.callers
    assert (caller.ae_title, caller.host) == (destination.ae_title, destination.host)
    [known] = ORTHANC["DicomModalities"].values()
    assert known["Host"] in SERVICES
    assert (known["AET"], known["Port"]) == (NODE.node.ae_title, NODE.node.port)
    assert NODE.database == "postgresql://node@postgres/node"
    postgres = SERVICES["postgres"]["environment"]
    assert postgres["POSTGRES_USER"] == postgres["POSTGRES_DB"] == "node"
    assert SERVICES["node"]["environment"]["PGPASSWORD"] == postgres["POSTGRES_PASSWORD"]


def test_who_watches_knows_whom() -> None:
    assert NODE.web is not None
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    targets = [
        target
        for job in scraped["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    ]
    assert targets == [f"node:{NODE.web.port}", f"http://node:{NODE.web.port}/healthz"]
    prober = scraped["scrape_configs"][1]["relabel_configs"][-1]["replacement"]
    assert prober.partition(":")[0] in SERVICES
    provided = (DEPLOY / "grafana" / "datasource.yaml").read_text("utf-8")
    [host] = re.findall(r"http://([a-z]+):9090", provided)
    assert host in SERVICES
    boards = yaml.safe_load((DEPLOY / "grafana" / "boards.yaml").read_text("utf-8"))
    folder = boards["providers"][0]["options"]["path"]
    assert any(f":{folder}/" in volume for volume in SERVICES["grafana"]["volumes"])


def test_the_page_is_published_where_it_listens() -> None:
    assert NODE.page is not None
    assert f"127.0.0.1:{NODE.page.port}:{NODE.page.port}" in SERVICES["node"]["ports"]
    # else the engine would publish a port that nobody outside the container can reach
    assert NODE.page.bind == "0.0.0.0"  # noqa: S104 - compared with
    exposed = (DEPLOY / "Containerfile.serve").read_text("utf-8")
    assert re.search(rf"^EXPOSE .*\b{NODE.page.port}\b", exposed, re.MULTILINE)
    assert f"http://127.0.0.1:{NODE.page.port}" in DEPLOYMENT


def test_the_command_of_the_docs_lets_somebody_in_and_the_volume_keeps_it(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {NODE.node.port: free_port(), 9112: free_port(), 9180: free_port()}
    tree = yaml.safe_load((DEPLOY / "compose" / "node.yaml").read_text("utf-8"))
    # what the volume is, and what other containers are
    tree["node"] |= {"data": str(tmp_path / "volume"), "min_free_gib": 0, "processes": 1}
    tree |= {"database": None, "bundles": None}
    for section in ("node", "web", "page"):
        before = tree[section].get("port", NODE.node.port)
        tree[section] |= {"bind": "127.0.0.1", "port": ports[before]}
    (tmp_path / "node.yaml").write_text(yaml.safe_dump(tree))
    [command] = re.findall(r"exec node dicom-node (page user add .*) --config", DEPLOYMENT)
    node, visitor = Node(folder=tmp_path, port=ports[NODE.node.port]), HTTPCookieProcessor()
    ask = build_opener(visitor).open
    address = f"http://127.0.0.1:{ports[9180]}"
    try:
        node.start()
        done = node.cli(*command.split(), "--password-stdin", typed=f"{PASSWORD}\n")
        assert (done.returncode, done.stderr) == (0, "")
        with ask(f"{address}/login", timeout=30) as form:
            [token] = re.findall(r'name="csrf" value="([^"]+)"', form.read().decode())
        fields = urlencode({"csrf": token, "name": "ann", "password": PASSWORD, "next": "/queue"})
        with ask(f"{address}/login", fields.encode(), timeout=30) as answer:
            assert answer.url == f"{address}/queue"
        # users, sessions and audit are one file, and nothing else is outside the image
        assert (tmp_path / "volume" / "page.db").is_file()
        assert {path.name for path in tmp_path.iterdir()} == {"volume", "node.yaml", "log-0"}
        assert node.stop() == 0
    finally:
        if node.process is not None and node.process.poll() is None:
            node.kill()


def test_the_node_is_given_the_time_and_the_memory_that_it_may_take() -> None:
    patience_s = float(SERVICES["node"]["stop_grace_period"].removesuffix("s"))
    assert patience_s > NODE.node.drain_s + GRACE_S
    memory_mib = 1024 * int(SERVICES["node"]["mem_limit"].removesuffix("g"))
    assert memory_mib >= NODE.infer.memory_mib + 2 * NODE.infer.decode_memory_mib + 1024


@contextmanager
def viewer(program: str, folder: Path, port: int, orthanc_port: int) -> Iterator[str]:
    """Run nginx with the shipped settings in front of an Orthanc."""
    pages = folder / "pages"
    pages.mkdir()
    (pages / "index.html").write_text("the viewer")
    shipped = (DEPLOY / "compose" / "nginx.conf").read_text("utf-8")
    server = (
        shipped.replace("listen 8080", f"listen 127.0.0.1:{port}")
        .replace("http://orthanc:8042", f"http://127.0.0.1:{orthanc_port}")
        .replace("/usr/share/nginx/html", str(pages))
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;"
        f"events {{}} http {{ include /etc/nginx/mime.types; access_log off; {places} {server} }}"
    )
    # the log's own place is opened before the settings are read
    command = [program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    process = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or status_of(f"{address}/"))
        assert process.poll() is None
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def status_of(url: str, data: bytes | None = None, method: str | None = None) -> int:
    """Return the HTTP status of an answer, 0 when there was none."""
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


@pytest.mark.peers
@pytest.mark.slow
def test_the_viewer_reads_of_orthanc_what_dicomweb_has_and_nothing_else(
    tmp_path: Path, free_port: Callable[[], int], needs_program: Callable[[str], str]
) -> None:
    program, pacs = needs_program("nginx"), needs_program("Orthanc")
    [plugin] = ORTHANC["Plugins"]
    if not Path(plugin).exists():
        pytest.skip("Orthanc speaks no DICOMweb: apt-get install orthanc-dicomweb")
    with (
        orthanc(pacs, tmp_path / "pacs", free_port, node_port=1, plugins=[Path(plugin)]) as running,
        viewer(program, tmp_path, free_port(), running.http_port) as address,
    ):
        assert status_of(f"{address}/dicom-web/studies") == 200
        assert status_of(f"{address}/dicom-web/studies", b"", "POST") == 403
        for inside in ("/viewer?StudyInstanceUIDs=1.2", "/instances", "/tools/reset"):
            with urllib.request.urlopen(f"{address}{inside}", timeout=30) as response:
                assert response.read() == b"the viewer"


def test_the_viewer_is_the_one_that_results_are_looked_at_with_and_asks_as_that_does() -> None:
    text = (DEPLOY / "Containerfile.ohif").read_text("utf-8")
    assert set(re.findall(r"app[@-](\d+\.\d+\.\d+)", text)) == {VERSION}
    settings = (DEPLOY / "compose" / "ohif.js").read_text("utf-8")
    asked = json.loads(settings.partition("window.config = ")[2].rstrip(";\n"))
    assert asked.items() <= SETTINGS.items()
    assert {*SETTINGS} - {*asked} == {"maxNumberOfWebWorkers", "showErrorDetails"}

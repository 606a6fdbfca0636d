import sys
from pathlib import Path

import pytest

from dicom_node import config
from dicom_node.errors import ConfigError

WHOLE = """\
node:
  ae_title: DICOM_NODE
  bind: 127.0.0.1
  port: 11112
  data: ./node-data
  processes: 2
  callers:
    - {ae_title: ORTHANC, host: 127.0.0.1}
study:
  quiet_s: 30
bundles: ./bundles
harvest: {enabled: true}
destinations:
  - {name: pacs, kind: dimse, ae_title: ORTHANC, host: 127.0.0.1, port: 4242, send: [seg, sr]}
database: null
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text)
    return path


def fault(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(written(folder, text))
    return str(caught.value)


def test_the_contract_of_the_design_is_accepted(tmp_path: Path) -> None:
    found = config.load(written(tmp_path, WHOLE))
    assert found.node.callers[0].ae_title == "ORTHANC"
    assert found.destinations[0].send == ("seg", "sr")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = config.load(written(tmp_path, WHOLE))
    assert found.node.data == tmp_path / "node-data"
    assert found.bundles == tmp_path / "bundles"


def test_nobody_may_send_by_default(tmp_path: Path) -> None:
    assert config.load(written(tmp_path, "node: {}\n")).node.callers == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("node:\n  prot: 11112\n", 2, ("node.prot", "unknown key", "port")),
        ("node:\n  port: eleven\n", 2, ("node.port", "'eleven'", "integer")),
        ("node:\n  port: 70000\n", 2, ("node.port", "70000", "65535")),
        ("node:\n  ae_title: FAR_TOO_LONG_AE_TITLE\n", 2, ("ae_title", "16 characters")),
        ("node:\n  callers:\n    - {host: a}\n", 3, ("node.callers.0.ae_title", "missing")),
        ("study:\n  quiet_s: -1\n", 2, ("study.quiet_s", "-1", "greater than 0")),
        ("destinations:\n  - name: a b\n", 2, ("destinations.0.name", "'a b'")),
        ("node: [\n", 2, ("not YAML",)),
        ("just words\n", 1, ("expected sections",)),
        ("node: {port: 1}\nstudy: {}\nnode: {port: 2}\n", 3, ("node", "line 1")),
        ("node:\n  callers:\n    - {host: a, host: b}\n", 3, ("host", "already")),
    ],
)
def test_a_fault_names_file_line_value_and_cure(
    tmp_path: Path, text: str, line: int, words: tuple[str, ...]
) -> None:
    message = fault(tmp_path, text)
    assert f"node.yaml:{line}:" in message
    assert all(word in message for word in words), message


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    message = fault(tmp_path, "node:\n  prot: 1\nstudy:\n  quiet: 2\n")
    assert len(message.splitlines()) == 2


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    one = "  - {name: pacs, ae_title: A, host: h, port: 104}\n"
    message = fault(tmp_path, f"destinations:\n{one}{one}")
    assert "node.yaml:3: destinations: 'pacs' stands 2 times" in message


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--config"):
        config.load(tmp_path / "absent.yaml")


def test_a_port_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("node: {port: 9112}\nweb: {port: 9112}\n")
    with pytest.raises(ConfigError, match=r"yaml:2: port 9112 stands 2 times.*give each its own"):
        config.load(path)


def destination(*, port: str = "104", more: str = "") -> str:
    return f"destinations:\n  - {{name: pacs, ae_title: A, host: h, port: {port}{more}}}\n"


def test_the_files_of_a_destination_are_relative_to_the_configuration(tmp_path: Path) -> None:
    text = destination(more=", tls: {ca: ca.pem, certificate: /etc/n.pem, key: n.key}")
    [found] = config.load(written(tmp_path, text)).destinations
    assert isinstance(found, config.Destination)
    assert found.tls is not None
    assert (found.tls.ca, found.tls.key) == (tmp_path / "ca.pem", tmp_path / "n.key")
    assert found.tls.certificate == Path("/etc/n.pem")


def test_an_unknown_key_of_a_destinations_tls_is_told_the_known_ones(tmp_path: Path) -> None:
    message = fault(tmp_path, destination(more=", tls: {cert: n.pem}"))
    assert "destinations.0.tls.cert: unknown key; known here: ca, certificate" in message


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    message = fault(tmp_path, destination(more=", tls: {certificate: n.pem}"))
    assert "node.yaml:2: destinations: pacs: tls: certificate and key belong together" in message


def web(more: str = "", *, url: str = "https://h/dicom-web") -> str:
    return f"destinations:\n  - {{name: web, kind: dicomweb, url: {url!r}{more}}}\n"


def test_a_destination_of_another_kind_has_keys_of_its_own(tmp_path: Path) -> None:
    text = web(", token_file: token, ca: ca.pem, send: [sr]")
    [found] = config.load(written(tmp_path, text)).destinations
    assert isinstance(found, config.DicomwebDestination)
    assert (found.token_file, found.ca) == (tmp_path / "token", tmp_path / "ca.pem")
    assert found.send == ("sr",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (web(", port: 1"), ("destinations.0.port: unknown key", "known here: ca", "url, user")),
        (destination(more=", url: u"), ("destinations.0.url: unknown key", "ae_title", "tls")),
        (destination(more=", kind: ftp"), ("kind 'ftp' is not known; known are dimse, dicomweb",)),
        (web(url="ftp://h"), ("destinations.0.url", "'ftp://h'")),
        (web(url="https://user:word@h/"), ("destinations.0.url",)),
        (web(", user: node"), ("web: user and password_file belong together",)),
        (web(", user: n, password_file: p, token_file: t"), ("token_file and user exclude",)),
    ],
)
def test_a_destination_says_what_its_kind_allows(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    message = fault(tmp_path, text)
    assert all(word in message for word in words), message


def test_a_model_server_is_named_by_its_address(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    found = config.load(written(tmp_path, "infer: {url: 'grpcs://host:8001', ca: ca.pem}\n"))
    assert (found.infer.url, found.infer.ca) == ("grpcs://host:8001", tmp_path / "ca.pem")
    for wrong in ("http://host:8000", "grpc://host", "grpc://user@host:8001", "host:8001"):
        assert "infer.url" in fault(tmp_path, f"infer:\n  url: {wrong}\n")


def test_a_catalogue_is_on_a_server_and_its_password_elsewhere(tmp_path: Path) -> None:
    address = "postgresql://node@db.hospital.example/store?sslmode=verify-full"
    found = config.load(written(tmp_path, f"harvest: {{catalogue: '{address}'}}\n"))
    assert found.harvest.catalogue == address
    for wrong in ("mysql://node@db/store", "postgresql://node@db", "store", "postgresql://[/x"):
        message = fault(tmp_path, f"harvest:\n  catalogue: {wrong}\n")
        assert ":2: harvest.catalogue: not a server" in message, wrong
    for open_word in ("postgresql://node:pw1@db/store", "postgresql://node@db/store?password=pw1"):
        message = fault(tmp_path, f"harvest:\n  catalogue: {open_word}\n")
        assert "the file that PGPASSFILE names" in message
        assert "pw1" not in message


def test_authorities_without_a_use_or_a_file_are_refused(tmp_path: Path) -> None:
    plain = "infer: {url: 'grpc://host:8001', ca: ca.pem}\n"
    assert "infer.ca: only for infer.url: grpcs://" in fault(tmp_path, plain)
    absent = "infer: {url: 'grpcs://host:8001', ca: absent.pem}\n"
    assert "absent.pem is no file; name a PEM file" in fault(tmp_path, absent)


@pytest.mark.parametrize("package", ["grpc", "google.protobuf", "google"])
def test_a_package_that_only_a_model_server_needs_is_missed_only_with_one(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "google":
        monkeypatch.delitem(sys.modules, "google.protobuf", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    message = fault(tmp_path, "infer: {url: 'grpc://host:8001'}\n")
    assert "pip install 'dicom-node[oip]'" in message
    config.load(written(tmp_path, "infer: {threads: 1}\n"))


def test_the_page_is_off_unless_it_is_named_and_its_files_lie_beside_the_configuration(
    tmp_path: Path,
) -> None:
    assert config.load(written(tmp_path, "node: {}\n")).page is None
    page = config.load(written(tmp_path, "page: {tls: {certificate: a.pem, key: b.key}}\n")).page
    assert page is not None
    assert (page.bind, page.port) == ("127.0.0.1", 9180)
    assert page.tls is not None
    assert (page.tls.certificate, page.tls.key) == (tmp_path / "a.pem", tmp_path / "b.key")
    assert page.identity_for == "admin"
    nobody = config.load(written(tmp_path, "page: {identity_for: null}\n")).page
    assert nobody is not None
    assert nobody.identity_for is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{prot: 1}", ("page.prot: unknown key", "identity_for, port, session_hours")),
        ("{tls: {ca: x}}", ("page.tls.ca: unknown key", "certificate, key")),
        ("{trusted_proxy: {}}", ("page.trusted_proxy.addresses: missing",)),
        ("{trusted_proxy: {addresses: [proxy]}}", ("'proxy'", "IPv4 or IPv6")),
        ("{trusted_proxy: {addresses: [], name: x}}", ("known here: addresses, header, role",)),
        ("{identity_for: boss}", ("'viewer', 'labeller' or 'admin'",)),
        ("{port: 11112}", ("port 11112 stands 2 times", "page.port")),
    ],
)
def test_what_the_page_does_not_take_is_said_with_what_it_does(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    message = fault(tmp_path, f"page: {text}\n")
    assert all(word in message for word in words), message

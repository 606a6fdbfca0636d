"""Delivery over TLS, and what is said where it does not come to be."""

import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.certificates import server_context
from dicom_node.cli.destinations import destinations
from dicom_node.config import Config, Destination
from dicom_node.deliver import Outcome, Verdict, echo, send
from tests.support.certificates import Certificates, certificates
from tests.support.nodes import until
from tests.support.owed import SEG, result
from tests.support.pacs import Pacs, pacs

pytestmark = [
    pytest.mark.dimse,
    # pynetdicom 3.0.4 leaves closing the sockets of a failed handshake to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]

#: The peer waits no longer for an association where its certificate alone was looked at.
SOON_S = 5.0


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return certificates(tmp_path)


def serving(made: Certificates, *, asks: bool = False, **changes: Any) -> ssl.SSLContext:
    """Return the context of a PACS, that asks for a certificate or does not."""
    callers_ca = made.folder / "ca.pem" if asks else None
    return server_context(made.settings(1, callers_ca=callers_ca, **changes))


def secured(peer: Pacs, made: Certificates, **tls: object) -> Destination:
    return peer.destination.model_copy(update={"tls": made.towards(**tls)})


def sent(destination: Destination, folder: Path) -> Outcome:
    [outcome] = send([result(folder, "1.1")], destination, calling_ae_title="NODE")
    return outcome


@pytest.mark.parametrize("asks", [False, True])
def test_an_object_and_an_echo_go_over_tls(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates, asks: bool
) -> None:
    with pacs(free_port(), SEG, ssl_context=serving(made, asks=asks)) as peer:
        tls = made.with_client() if asks else made.towards()
        destination = peer.destination.model_copy(update={"tls": tls})
        assert sent(destination, tmp_path).verdict is Verdict.DELIVERED
        assert echo(destination, calling_ae_title="NODE") == ""
    assert len(peer.received) == 1


def test_a_destination_of_another_authority_gets_nothing(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates
) -> None:
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other")
    with pacs(free_port(), SEG, ssl_context=serving(other)) as peer:
        outcome = sent(secured(peer, made), tmp_path)
    assert outcome.verdict is Verdict.TEMPORARY
    assert outcome.is_down
    assert "certificate will not do" in outcome.reason
    assert "correct tls.ca" in outcome.reason
    assert peer.received == []


def test_the_name_in_the_certificate_counts_unless_the_site_says_otherwise(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates
) -> None:
    with pacs(free_port(), SEG, ssl_context=serving(made)) as peer:
        misnamed = sent(secured(peer, made, server_name="pacs.test"), tmp_path)
        unchecked = secured(peer, made, server_name="pacs.test", check_server_name=False)
        assert sent(unchecked, tmp_path).verdict is Verdict.DELIVERED
    assert misnamed.verdict is Verdict.TEMPORARY
    assert "pacs.test" in misnamed.reason


def test_a_destination_that_knows_no_more_than_tls_1_2_is_named_where_1_3_is_asked_for(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates
) -> None:
    context = serving(made)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pacs(free_port(), SEG, ssl_context=context) as peer:
        outcome = sent(secured(peer, made, minimum_version="1.3"), tmp_path)
    assert outcome.verdict is Verdict.TEMPORARY
    assert "tls.minimum_version" in outcome.reason


def test_a_destination_that_wants_a_certificate_of_the_node_is_understood(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates
) -> None:
    with pacs(
        free_port(), SEG, ssl_context=serving(made, asks=True), acse_timeout_s=SOON_S
    ) as peer:
        outcome = sent(secured(peer, made), tmp_path)
    assert outcome.verdict is Verdict.TEMPORARY
    assert "tls.certificate" in outcome.reason


def test_a_file_that_cannot_be_used_is_named_and_the_object_waits(
    tmp_path: Path, free_port: Callable[[], int], made: Certificates
) -> None:
    with pacs(free_port(), SEG, ssl_context=serving(made)) as peer:
        outcome = sent(secured(peer, made, ca=tmp_path / "absent.pem"), tmp_path)
    assert outcome.verdict is Verdict.TEMPORARY
    assert "absent.pem cannot be used (No such file or directory)" in outcome.reason


def test_check_says_how_long_the_certificates_are_good(
    free_port: Callable[[], int], made: Certificates
) -> None:
    def look(ends: datetime) -> tuple[str, str]:
        with pacs(
            free_port(), SEG, ssl_context=serving(made, asks=True), acse_timeout_s=SOON_S
        ) as peer:
            tls = made.with_client(ends=ends)
            asked = peer.destination.model_copy(update={"tls": tls, "send": ("seg",)})
            [(_, fault, found)] = destinations(Config(destinations=(asked,)))
        return fault, found

    fault, found = look(datetime.now(UTC) + timedelta(days=9.5))
    assert fault == ""
    assert "answers C-ECHO over TLS; its certificate is good for" in found
    assert "the one that the node shows is good for 9 days" in found
    assert "warning" in found


def test_check_names_a_certificate_of_the_node_that_ended(
    free_port: Callable[[], int], made: Certificates
) -> None:
    with pacs(free_port(), SEG, ssl_context=serving(made)) as peer:
        tls = made.with_client(ends=datetime.now(UTC) - timedelta(days=1))
        asked = peer.destination.model_copy(update={"tls": tls})
        [(_, fault, _)] = destinations(Config(destinations=(asked,)))
    assert "client.pem has expired" in fault


@pytest.mark.peers
def test_dcmtk_takes_an_object_over_tls(
    tmp_path: Path,
    free_port: Callable[[], int],
    needs_program: Callable[[str], str],
    made: Certificates,
) -> None:
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    files = [str(tmp_path / name) for name in ("node.key", "node.pem", "ca.pem")]
    command = [needs_program("storescp"), "+tls", *files[:2], "+cf", files[2], "-aet", "PACS"]
    with subprocess.Popen([*command, "-od", str(received), str(port)]) as peer:
        try:
            destination = Destination(
                name="dcmtk",
                ae_title="PACS",
                host="127.0.0.1",
                port=port,
                tls=made.with_client(),
                timeout_s=10,
            )
            until(lambda: echo(destination, calling_ae_title="NODE") == "")
            assert sent(destination, tmp_path).verdict is Verdict.DELIVERED
            assert len(list(received.iterdir())) == 1
        finally:
            peer.terminate()

import os
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, examples
from pynetdicom import AE

from dicom_node.certificates import server_context
from dicom_node.config import TlsSettings
from dicom_node.errors import ConfigError
from dicom_node.inbox import Inbox
from tests.support.certificates import Certificates, certificates
from tests.support.receiving import (
    ASSOCIATE_AC,
    EXPLICIT_LE,
    SERVED_WITHIN_S,
    RawPeer,
    Receiver,
    associate_rq,
    data_set,
    eventually,
    p_data,
    receiver,
    settings_for,
    store_command,
)

pytestmark = pytest.mark.dimse


@pytest.fixture
def certified(tmp_path: Path) -> Certificates:
    return certificates(tmp_path)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


@pytest.fixture
def tls(certified: Certificates, free_port: Callable[[], int]) -> TlsSettings:
    return certified.settings(free_port())


@pytest.fixture
def running(inbox: Inbox, tls: TlsSettings, free_port: Callable[[], int]) -> Iterator[Receiver]:
    settings = settings_for(free_port(), tls=tls, network_timeout_s=2.0)
    with receiver(settings, inbox) as running:
        yield running


def associate(port: int, context: ssl.SSLContext | None) -> Any:
    ae = AE("PEER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context("1.2.840.10008.1.1")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.3.1", EXPLICIT_LE)
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.6.1", EXPLICIT_LE)
    return ae.associate("127.0.0.1", port, tls_args=context and (context, "127.0.0.1"))


def comes_in(port: int, context: ssl.SSLContext) -> bool:
    """Tell whether an association can be had."""
    with RawPeer(port) as peer:
        try:
            peer.socket = context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
            peer.send(associate_rq([("1.2.840.10008.1.1", [EXPLICIT_LE])]))
            return peer.read()[0] == ASSOCIATE_AC
        except OSError:
            return False


def serial_number(port: int, context: ssl.SSLContext) -> str:
    """Return that of the certificate which a caller meets."""
    with RawPeer(port) as peer:
        peer.socket = context.wrap_socket(peer.socket, server_hostname="127.0.0.1")
        return str((peer.socket.getpeercert() or {})["serialNumber"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_image_comes_whole_over_each_version_of_tls(
    running: Receiver, tls: TlsSettings, certified: Certificates, version: ssl.TLSVersion
) -> None:
    context = certified.client()
    context.minimum_version = context.maximum_version = version
    path = Path(str(examples.get_path("palette_color")))
    assoc = associate(tls.port, context)
    assert assoc.send_c_store(dcmread(path)).Status == 0x0000
    assoc.release()
    assert [data_set(one) for one in running.received()] == [data_set(path)]


def test_a_cine_of_many_tls_records_comes_whole(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    cine = dcmread(examples.get_path("palette_color"))
    cine.PixelData = os.urandom(20_000_000)
    assoc = associate(tls.port, certified.client())
    assert assoc.send_c_store(cine).Status == 0x0000
    assoc.release()
    assert dcmread(running.received()[0]).PixelData == cine.PixelData


def test_plain_and_tls_are_served_beside_each_other(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    for port, context in ((running.port, None), (tls.port, certified.client())):
        assoc = associate(port, context)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_the_plain_port_stays_closed_where_tls_is_alone(
    inbox: Inbox, certified: Certificates, free_port: Callable[[], int]
) -> None:
    tls = certified.settings(free_port(), only=True)
    with receiver(settings_for(free_port(), tls=tls), inbox) as running:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", running.port)) != 0
        assert comes_in(tls.port, certified.client())


def test_who_shows_no_certificate_does_not_come_in(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    assert not comes_in(tls.port, certified.client(shows_certificate=False))
    assert comes_in(tls.port, certified.client())


def test_a_certificate_of_another_authority_does_not_come_in(
    running: Receiver, tls: TlsSettings, certified: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = certificates(tmp_path / "other").client()
    stranger.load_verify_locations(certified.folder / "ca.pem")
    assert not comes_in(tls.port, stranger)


def test_callers_stay_anonymous_where_no_authority_is_named(
    inbox: Inbox, certified: Certificates, free_port: Callable[[], int]
) -> None:
    tls = certified.settings(free_port(), callers_ca=None)
    with receiver(settings_for(free_port(), tls=tls), inbox):
        assert comes_in(tls.port, certified.client(shows_certificate=False))


def test_an_older_version_than_the_minimum_is_refused(
    inbox: Inbox, certified: Certificates, free_port: Callable[[], int]
) -> None:
    tls = certified.settings(free_port(), minimum_version="1.3")
    context = certified.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with receiver(settings_for(free_port(), tls=tls), inbox):
        assert not comes_in(tls.port, context)
        assert comes_in(tls.port, certified.client())


def test_silent_half_spoken_and_plain_peers_keep_nobody_out_of_tls(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01"  # a record header of a ClientHello that never comes
    mutes = [RawPeer(tls.port) for _ in range(6)]
    for mute in mutes[2:4]:
        mute.send(hello)
    for mute in mutes[4:]:
        mute.send(b"\x01\x00\x00\x00\x00\x10plain A-ASSOCIATE")
    assoc = associate(tls.port, certified.client())
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert all(mute.is_closed() for mute in mutes)
    for mute in mutes:
        mute.socket.close()


def test_others_are_served_while_handshakes_stand_still(
    inbox: Inbox, tls: TlsSettings, certified: Certificates, free_port: Callable[[], int]
) -> None:
    settings = settings_for(free_port(), tls=tls, network_timeout_s=60.0)
    with receiver(settings, inbox):
        mutes = [RawPeer(tls.port) for _ in range(6)]
        for mute in mutes[3:]:
            mute.send(b"\x16\x03\x01\x02\x00\x01")
        start = time.monotonic()
        assert comes_in(tls.port, certified.client())
        assert time.monotonic() - start < SERVED_WITHIN_S
        for mute in mutes:
            assert mute.is_open()
            mute.socket.close()


def test_a_new_certificate_serves_the_next_connection_without_a_restart(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    client = certified.client()
    old = serial_number(tls.port, client)
    with RawPeer(tls.port) as early:
        early.socket = client.wrap_socket(early.socket, server_hostname="127.0.0.1")
        early.associate()
        renewed = certified.authority.issue_cert("127.0.0.1")
        renewed.cert_chain_pems[0].write_to_path(tls.certificate)
        # the key is still that of the old one: both together serve nobody
        assert serial_number(tls.port, client) == old
        renewed.private_key_pem.write_to_path(tls.key)
        new = serial_number(tls.port, client)
        assert new != old
        assert early.store(b"1.2.3", b"\x08\x00\x60\x00CS\x02\x00US") == 0x0000
    tls.key.unlink()
    assert serial_number(tls.port, client) == new


def test_an_authority_that_is_taken_out_lets_nobody_in_any_more(
    running: Receiver, tls: TlsSettings, certified: Certificates, tmp_path: Path
) -> None:
    leaver = certified.client()
    assert comes_in(tls.port, leaver)
    (tmp_path / "other").mkdir()
    other = certificates(tmp_path / "other")
    newcomer = other.client()
    certified.authority.configure_trust(newcomer)
    assert not comes_in(tls.port, newcomer)
    other.authority.cert_pem.write_to_path(str(tls.callers_ca))
    assert not comes_in(tls.port, leaver)
    assert comes_in(tls.port, newcomer)


def test_a_transfer_that_breaks_off_over_tls_leaves_nothing(
    running: Receiver, tls: TlsSettings, certified: Certificates
) -> None:
    with RawPeer(tls.port) as peer:
        peer.socket = certified.client().wrap_socket(peer.socket, server_hostname="127.0.0.1")
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, b"x" * 10_000))
        assert eventually(running.unfinished)
    assert eventually(lambda: not running.unfinished())
    assert running.received() == []


@pytest.mark.parametrize("broken", ["certificate", "key", "callers_ca"])
def test_files_that_cannot_be_used_are_named_with_the_cure(
    certified: Certificates, tls: TlsSettings, broken: str
) -> None:
    path = getattr(tls, broken)
    path.write_text("no PEM")
    with pytest.raises(ConfigError, match=r"node\.tls.*; give") as raised:
        server_context(tls)
    assert path.name in str(raised.value)


def test_a_key_of_another_certificate_is_said(
    certified: Certificates, tls: TlsSettings, tmp_path: Path
) -> None:
    other = certified.authority.issue_cert("other.test")
    other.private_key_pem.write_to_path(tls.key)
    assert stat.S_ISREG(tls.key.stat().st_mode)
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH"):
        server_context(tls)

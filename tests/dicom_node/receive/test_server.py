import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.inbox import Inbox
from tests.support.certificates import certificates
from tests.support.receiving import RawPeer, receiver, settings_for

pytestmark = pytest.mark.dimse

#: bytes; a process has no more addresses than that: the system refuses every thread
_NO_STACK = 1 << 47


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_connection_that_gets_no_thread_is_closed_and_its_place_is_free_again(
    tmp_path: Path, free_port: Callable[[], int], is_tls: bool
) -> None:
    certified = certificates(tmp_path)
    settings = settings_for(
        free_port(), tls=certified.settings(free_port()), max_connections_per_host=1
    )
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    with receiver(settings, inbox) as running:
        assert settings.tls is not None
        before = threading.stack_size(_NO_STACK)
        try:
            with RawPeer(settings.tls.port if is_tls else running.port) as unlucky:
                assert unlucky.is_closed()
        finally:
            threading.stack_size(before)
        with RawPeer(running.port) as peer:
            peer.associate()
            assert peer.store(b"1.2.3", b"\x08\x00\x60\x00CS\x02\x00US") == 0x0000

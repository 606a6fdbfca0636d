import time
from collections.abc import Callable

import pytest
from pynetdicom import AE
from pynetdicom.dul import DULServiceProvider

from dicom_node.deliver import probe
from dicom_node.sop_classes import RESULTS
from tests.support.pacs import pacs

pytestmark = pytest.mark.dimse
STILL, CINE = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.4"
REFUSED = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def test_what_is_accepted_is_told_and_nothing_is_sent(free_port: Callable[[], int]) -> None:
    with pacs(free_port(), STILL, "1.2.840.10008.5.1.4.1.1.88.34") as peer:
        found = probe(peer.destination, calling_ae_title="NODE")
    assert set(found) == set(RESULTS)
    accepted = {uid for uid, yes in found.items() if yes}
    assert accepted == {STILL, "1.2.840.10008.5.1.4.1.1.88.34"}
    assert (peer.associations, peer.received) == (1, [])


def test_a_class_without_the_transfer_syntax_of_its_objects_is_not_accepted(
    free_port: Callable[[], int],
) -> None:
    with pacs(free_port(), CINE) as peer:  # Explicit VR Little Endian alone, the objects are JPEG
        assert not probe(peer.destination, calling_ae_title="NODE")[CINE]


def test_a_peer_that_accepts_nothing_at_all_has_answered(free_port: Callable[[], int]) -> None:
    ae, port = AE(ae_title="PACS"), free_port()
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
    server = ae.start_server(("127.0.0.1", port), block=False)
    try:
        with pacs(free_port()) as peer:
            there = peer.destination.model_copy(update={"port": port})
            assert probe(there, calling_ae_title="NODE") == dict.fromkeys(RESULTS, False)
    finally:
        server.shutdown()


@REFUSED
def test_one_that_is_down_or_rejects_the_node_has_not_answered(
    free_port: Callable[[], int],
) -> None:
    with pacs(free_port(), STILL, ae_title="ANOTHER") as peer:
        assert probe(peer.destination, calling_ae_title="NODE") == {}
    assert probe(peer.destination, calling_ae_title="NODE") == {}


def test_a_server_of_the_tests_comes_down_after_the_association_that_it_rejected(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = DULServiceProvider._is_transport_event
    rejected_at: list[float] = []

    def looks_late(provider: DULServiceProvider) -> bool:
        if provider.state_machine.current_state == "Sta13":  # awaits that the peer hangs up
            rejected_at.append(time.monotonic())
            if rejected_at[-1] - rejected_at[0] < 0.5:
                return False  # as when a busy machine holds its thread up
        return looks(provider)

    monkeypatch.setattr(DULServiceProvider, "_is_transport_event", looks_late)
    with pacs(free_port(), STILL, ae_title="ANOTHER") as peer:
        assert probe(peer.destination, calling_ae_title="NODE") == {}

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import Dataset, dcmread, examples
from pydicom.uid import generate_uid
from pynetdicom import AE
from structlog.testing import capture_logs

from dicom_node.config import Caller
from dicom_node.inbox import Inbox
from dicom_node.listeners import close, listen
from dicom_node.receive import statuses
from tests.support.receiving import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    EXPLICIT_LE,
    RELEASE_RP,
    SERVED_WITHIN_S,
    US_IMAGE,
    RawPeer,
    Receiver,
    associate_rq,
    data_set,
    eventually,
    p_data,
    pdu,
    receiver,
    receiver_process,
    settings_for,
    store_command,
)

pytestmark = pytest.mark.dimse

IMPLICIT_LE = "1.2.840.10008.1.2"
SMALL = b"\x08\x00\x60\x00CS\x02\x00US"
LIMIT_S = 20


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox", min_free_bytes=0)


@pytest.fixture
def running(inbox: Inbox, free_port: Callable[[], int]) -> Iterator[Receiver]:
    with receiver(settings_for(free_port()), inbox) as running:
        yield running


def associate(port: int, *contexts: tuple[str, list[str]], ae_title: str = "PEER") -> Any:
    ae = AE(ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT_S
    for abstract, transfers in contexts or (("1.2.840.10008.1.1", [IMPLICIT_LE]),):
        ae.add_requested_context(abstract, transfers)
    return ae.associate("127.0.0.1", port)


def image() -> Dataset:
    """A real ultrasound image that pydicom ships, 283 kB."""
    return dcmread(examples.get_path("palette_color"))


def test_an_echo_is_answered(running: Receiver) -> None:
    assoc = associate(running.port)
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def test_a_stored_image_lies_in_the_inbox_with_the_bytes_as_sent(running: Receiver) -> None:
    sent = image()
    assoc = associate(running.port, (sent.SOPClassUID, [EXPLICIT_LE]))
    for _ in range(3):
        assert assoc.send_c_store(sent).Status == 0x0000
    assoc.release()
    original = data_set(Path(examples.get_path("palette_color")))
    assert [data_set(path) for path in running.received()] == [original] * 3
    assert running.unfinished() == []


def test_a_private_sop_class_is_stored(running: Receiver) -> None:
    sent = image()
    sent.SOPClassUID = "1.3.46.670589.5.0.3"
    assoc = associate(running.port, (sent.SOPClassUID, [EXPLICIT_LE]))
    assert assoc.send_c_store(sent).Status == 0x0000
    assoc.release()
    assert len(running.received()) == 1


def test_explicit_is_chosen_where_a_context_proposes_both(running: Receiver) -> None:
    assoc = associate(running.port, (US_IMAGE, [IMPLICIT_LE, EXPLICIT_LE]))
    assert [c.transfer_syntax for c in assoc.accepted_contexts] == [[EXPLICIT_LE]]
    assoc.release()


def test_deflated_and_queries_are_not_accepted(running: Receiver) -> None:
    assoc = associate(
        running.port,
        ("1.2.840.10008.1.1", [IMPLICIT_LE]),
        (US_IMAGE, ["1.2.840.10008.1.2.1.99"]),
        ("1.2.840.10008.5.1.4.1.2.2.1", [IMPLICIT_LE]),
    )
    assert [str(c.abstract_syntax) for c in assoc.accepted_contexts] == ["1.2.840.10008.1.1"]
    assoc.release()


def test_an_unlisted_caller_is_rejected_and_told_why(running: Receiver) -> None:
    with capture_logs() as logs, RawPeer(running.port) as peer:
        peer.send(associate_rq([(US_IMAGE, [EXPLICIT_LE])], calling="STRANGER"))
        # rejected-permanent, DICOM UL service-user, calling-AE-title-not-recognized (PS3.8 9.3.4)
        assert peer.read() == (ASSOCIATE_RJ, b"\0\1\1\3")
    assert [line["ae_title"] for line in logs if line["event"] == "association_rejected"] == [
        "STRANGER"
    ]


def test_an_empty_list_rejects_everybody(inbox: Inbox, free_port: Callable[[], int]) -> None:
    with receiver(settings_for(free_port(), callers=()), inbox) as running:
        assert associate(running.port).is_rejected


def test_a_wildcard_is_honoured_and_said_out_loud(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    anybody = (Caller(ae_title="*", host="127.0.0.1"),)
    with (
        capture_logs() as logs,
        receiver(settings_for(free_port(), callers=anybody), inbox) as running,
    ):
        assoc = associate(running.port, ae_title="STRANGER")
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
    assert [line["log_level"] for line in logs if line["event"] == "wildcard_caller"] == ["warning"]


def test_one_association_too_many_is_rejected_for_now(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    with receiver(settings_for(free_port(), max_associations=1), inbox) as running:
        first = associate(running.port)
        assert first.is_established
        with RawPeer(running.port) as peer:
            peer.send(associate_rq([(US_IMAGE, [EXPLICIT_LE])]))
            assert peer.read() == (ASSOCIATE_RJ, b"\0\2\3\2")
        first.release()


@pytest.mark.parametrize(
    "uid", [b"../../evil", b"", None, b"1.2\\1.3", b"1.2\x00.3", b"9" * 66, b"\xff\xfe"]
)
def test_what_is_no_uid_is_refused_and_the_association_goes_on(
    running: Receiver, uid: bytes | None
) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        assert peer.store(uid, SMALL) == statuses.INVALID_SOP_INSTANCE.code
        assert peer.store(b"1.2.3", SMALL) == 0x0000
    assert [data_set(path) for path in running.received()] == [SMALL]
    assert not list(running.inbox.folder.parent.rglob("*evil*"))


def test_a_uid_with_leading_zeros_is_stored(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        assert peer.store(b"1.2.003", SMALL) == 0x0000


def test_another_sop_class_than_negotiated_is_refused(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        status = peer.store(b"1.2.3", SMALL, sop_class_uid="1.2.840.10008.5.1.4.1.1.2")
        assert status == statuses.SOP_CLASS_NOT_SUPPORTED.code


def test_a_request_without_a_data_set_cannot_be_understood(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3", has_data_set=False)))
        assert peer.status() == statuses.CANNOT_UNDERSTAND.code


def test_fragments_of_any_size_make_one_data_set(running: Receiver) -> None:
    command = store_command(b"1.2.3")
    with RawPeer(running.port) as peer:
        peer.associate()
        peer.send(p_data(1, command[:11]) + p_data(1, command[11:12]) + p_data(3, command[12:]))
        peer.send(b"".join(p_data(0, bytes([byte])) for byte in SMALL) + p_data(2, b""))
        assert peer.status() == 0x0000
    assert [data_set(path) for path in running.received()] == [SMALL]


def test_command_and_data_set_may_share_a_pdu(running: Receiver) -> None:
    both = p_data(3, store_command(b"1.2.3"))[6:] + p_data(2, SMALL)[6:]
    with RawPeer(running.port) as peer:
        peer.associate()
        peer.send(pdu(4, both))
        assert peer.status() == 0x0000
        peer.send(pdu(5, b"\0\0\0\0"))
        assert peer.read()[0] == RELEASE_RP


def test_a_full_inbox_answers_out_of_resources_until_there_is_room(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=300_000)
    with receiver(settings_for(free_port()), inbox) as running:
        sent = image()
        assoc = associate(running.port, (sent.SOPClassUID, [EXPLICIT_LE]))
        answers = []
        for _ in range(3):
            sent.SOPInstanceUID = generate_uid()
            answers.append(assoc.send_c_store(sent))
        assert [answer.Status for answer in answers] == [0x0000, 0x0000, 0xA700]
        assert answers[2].ErrorComment == statuses.OUT_OF_RESOURCES.comment
        inbox.remove_duplicate(inbox.waiting()[0])
        assert assoc.send_c_store(sent).Status == 0x0000
        assoc.release()
    assert running.unfinished() == []


@pytest.mark.parametrize("ending", [pdu(7, b"\0\0\0\0"), b"", b"\x04\x00\x00\x01"])
def test_an_aborted_transfer_leaves_nothing(running: Receiver, ending: bytes) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, b"x" * 10_000))
        assert eventually(running.unfinished)
        peer.send(ending)
    assert eventually(lambda: not running.unfinished())
    assert running.received() == []


def test_a_transfer_that_stalls_is_given_up_and_leaves_nothing(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    with (
        receiver(settings_for(free_port(), network_timeout_s=0.5), inbox) as running,
        RawPeer(running.port) as peer,
    ):
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, SMALL))
        assert eventually(running.unfinished)
        assert peer.read()[0] == ABORT
        assert eventually(lambda: not running.unfinished())
    assert running.received() == []


@pytest.mark.parametrize(
    "message",
    [
        p_data(3, b"\xff" * 40),
        p_data(3, b""),
        p_data(3, store_command(b"1.2.3")[:-20]),
        p_data(2, SMALL),
        pdu(4, struct.pack(">LB", 1, 1)),
        pdu(4, struct.pack(">LBB", 999, 1, 3)),
        p_data(3, store_command(b"1.2.3"), context_id=99),
        p_data(3, store_command(b"1.2.3")) + p_data(3, store_command(b"1.2.4")),
        b"".join(p_data(1, b"\0" * 16000) for _ in range(10)),
        pdu(9, b"what"),
    ],
    ids=[
        "noise",
        "empty command",
        "cut command",
        "data set without command",
        "empty fragment",
        "lying fragment length",
        "unknown context",
        "command inside a data set",
        "endless command",
        "unknown PDU",
    ],
)
def test_nonsense_ends_its_association_and_no_other(running: Receiver, message: bytes) -> None:
    with RawPeer(running.port) as other, RawPeer(running.port) as peer:
        other.associate()
        peer.associate()
        peer.send(message)
        kind, _ = peer.read()
        assert kind in (ABORT, 0)
        assert other.store(b"1.2.3", SMALL) == 0x0000
    assert eventually(lambda: not running.unfinished())
    assert len(running.received()) == 1


def test_silent_and_half_spoken_peers_keep_nobody_out(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    settings = settings_for(free_port(), max_associations=2, network_timeout_s=2.0)
    with receiver(settings, inbox) as running:
        mutes = [RawPeer(running.port) for _ in range(8)]
        for mute in mutes[4:]:
            mute.send(b"\x01\x00\x00\x00")
        assoc = associate(running.port)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
        assert all(mute.is_closed() for mute in mutes)
        for mute in mutes:
            mute.socket.close()


def test_others_are_served_while_the_silent_ones_stay_silent(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    settings = settings_for(free_port(), max_associations=2, network_timeout_s=60.0)
    with receiver(settings, inbox) as running:
        mutes = [RawPeer(running.port) for _ in range(8)]
        for mute in mutes[4:]:
            mute.send(b"\x01\x00\x00\x00")
        start = time.monotonic()
        with RawPeer(running.port) as peer:
            peer.associate()
            assert peer.store(b"1.2.3", SMALL) == 0x0000
        assert time.monotonic() - start < SERVED_WITHIN_S
        for mute in mutes:
            assert mute.is_open()
            mute.socket.close()


@pytest.mark.parametrize("length", [0xFFFFFFFF, 64 << 20, (1 << 18) + 1])
def test_a_giant_association_request_is_cut_off_at_once(running: Receiver, length: int) -> None:
    before = psutil.Process().memory_info().rss
    with RawPeer(running.port) as peer:
        peer.send(struct.pack(">BxL", 1, length))
        assert peer.is_closed()
    assert psutil.Process().memory_info().rss - before < 16 << 20


def test_a_longer_data_pdu_than_announced_is_cut_off(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate()
        peer.send(struct.pack(">BxL", 4, 1 << 20))
        assert peer.is_closed()


def test_connections_beyond_the_limit_are_closed(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    with receiver(settings_for(free_port(), max_associations=1), inbox) as running:
        peers = [RawPeer(running.port) for _ in range(30)]
        closed = 0
        for peer in reversed(peers):
            peer.socket.settimeout(0.5)
            closed += peer.is_closed()
            if closed == 12:  # 2 * max_associations + 16 may stay
                break
        for peer in peers:
            peer.socket.close()
        assert closed == 12


def test_on_stop_a_running_transfer_finishes_and_the_port_is_closed(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    with (
        receiver(settings_for(free_port(), drain_s=float(LIMIT_S)), inbox) as running,
        RawPeer(running.port) as peer,
    ):
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, SMALL))
        assert eventually(running.unfinished)
        running.stop.set()
        assert eventually(lambda: not is_open(running.port))
        peer.send(p_data(2, b""))
        assert peer.status() == 0x0000
    assert len(running.received()) == 1


def test_on_stop_a_peer_that_never_finishes_is_aborted_and_leaves_nothing(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    with (
        receiver(settings_for(free_port(), drain_s=0.2), inbox) as running,
        RawPeer(running.port) as peer,
    ):
        peer.associate()
        peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, SMALL))
        assert eventually(running.unfinished)
        running.stop.set()
        assert peer.read()[0] == ABORT
        assert eventually(lambda: not running.unfinished())


@pytest.mark.slow
def test_a_receiver_killed_in_mid_transfer_leaves_no_instance(
    inbox: Inbox, free_port: Callable[[], int]
) -> None:
    settings = settings_for(free_port())
    with receiver_process(settings, inbox) as process, RawPeer(settings.port) as peer:
        peer.associate()
        assert peer.store(b"1.2.3", SMALL) == 0x0000
        peer.send(p_data(3, store_command(b"1.2.4")) + p_data(0, b"x" * 10_000))
        assert eventually(lambda: list((inbox.folder / "tmp").iterdir()))
        process.kill()
        process.join(10)
    assert len(inbox.waiting()) == 1
    assert inbox.sweep() == 1
    assert list((inbox.folder / "tmp").iterdir()) == []
    with receiver(settings, inbox) as running, RawPeer(running.port) as peer:
        peer.associate()
        assert peer.store(b"1.2.4", SMALL) == 0x0000
    assert len(inbox.waiting()) == 2


@pytest.mark.slow
def test_a_large_cine_takes_no_memory(inbox: Inbox, free_port: Callable[[], int]) -> None:
    settings = settings_for(free_port())
    piece = p_data(0, b"x" * 120_000)
    with receiver_process(settings, inbox) as process, RawPeer(settings.port) as peer:
        peer.associate()
        assert peer.store(b"1.2.3", SMALL) == 0x0000
        memory = psutil.Process(process.pid)
        before = peak = memory.memory_info().rss
        peer.send(p_data(3, store_command(b"1.2.4")))
        for number in range(900):
            peer.send(piece)
            if number % 50 == 0:
                peak = max(peak, memory.memory_info().rss)
        peer.send(p_data(2, b""))
        assert peer.status() == 0x0000
        peak = max(peak, memory.memory_info().rss)
    assert inbox.path(inbox.waiting()[-1]).stat().st_size > 108_000_000
    assert peak - before < 8 << 20


@pytest.mark.slow
def test_two_processes_share_the_port(inbox: Inbox, free_port: Callable[[], int]) -> None:
    settings = settings_for(free_port())
    shared = listen(settings)
    with receiver_process(settings, inbox, shared), receiver_process(settings, inbox, shared):
        close(shared)
        for number in range(8):
            with RawPeer(settings.port) as peer:
                peer.associate()
                assert peer.store(f"1.2.{number}".encode(), SMALL) == 0x0000
    assert len(inbox.waiting()) == 8


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_accepted_means_a_status_for_every_peer(running: Receiver) -> None:
    peers = [RawPeer(running.port) for _ in range(10)]
    for number, peer in enumerate(peers):
        peer.send(associate_rq([(US_IMAGE, [EXPLICIT_LE])]))
        assert peer.read()[0] == ASSOCIATE_AC
        peer.send(p_data(3, store_command(f"1.2.{number}".encode())))
    for peer in reversed(peers):
        peer.send(p_data(2, SMALL))
    assert [peer.status() for peer in peers] == [0x0000] * 10
    for peer in peers:
        peer.socket.close()
    assert len(running.received()) == 10

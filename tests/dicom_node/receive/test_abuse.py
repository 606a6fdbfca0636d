"""A hostile or broken peer harms only itself: everybody else is served within 2 s."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dicom_node.config import Caller, NodeSettings
from dicom_node.inbox import Inbox
from dicom_node.receive.contexts import COMMITMENT
from dicom_node.receive.notice_statuses import FAILED
from tests.support.receiving import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    EXPLICIT_LE,
    SERVED_WITHIN_S,
    US_IMAGE,
    RawPeer,
    associate_rq,
    commit_command,
    eventually,
    p_data,
    pdu,
    receiver,
    receiver_process,
    settings_for,
    store_command,
)

pytestmark = [pytest.mark.dimse, pytest.mark.slow]

SMALL = b"\x08\x00\x60\x00CS\x02\x00US"
#: of a receiver process, whatever its peers do
MEMORY_LIMIT_BYTES = 150_000_000
GOOD_HOST = "127.9.9.9"


@dataclass
class Victim:
    """A receiver in a process of its own, and what it may not do."""

    settings: NodeSettings
    inbox: Inbox
    memory: psutil.Process

    @property
    def port(self) -> int:
        return self.settings.port

    def serves_others(self) -> None:
        start = time.monotonic()
        with RawPeer(self.port, host=GOOD_HOST) as peer:
            peer.associate()
            assert peer.store(b"1.2.3", SMALL) == 0x0000
        assert time.monotonic() - start < SERVED_WITHIN_S
        assert self.memory.memory_info().rss < MEMORY_LIMIT_BYTES

    def is_clean(self) -> bool:
        return not list((self.inbox.folder / "tmp").iterdir())


@pytest.fixture
def victim(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Victim]:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    # the limits are those that a site gets that sets none
    settings = settings_for(free_port(), callers=(Caller(ae_title="PEER"),), network_timeout_s=3.0)
    with receiver_process(settings, inbox) as process:
        yield Victim(settings, inbox, psutil.Process(process.pid))


def hosts() -> Iterator[str]:
    """Yield addresses, each for as many connections as it may have."""
    for number in range(1, 250):
        yield from [f"127.0.1.{number}"] * NodeSettings().max_connections_per_host


def test_200_idle_associations_cost_nothing_and_are_freed(victim: Victim) -> None:
    with ExitStack() as stack:
        idle = [
            stack.enter_context(RawPeer(victim.port, host=host))
            for host, _ in zip(hosts(), range(200), strict=False)
        ]
        for peer in idle:
            peer.associate()
        before = sum(victim.memory.cpu_times()[:2])
        victim.serves_others()
        threading.Event().wait(1.0)
        # 200 polling threads would take more than a core
        assert sum(victim.memory.cpu_times()[:2]) - before < 0.5
        assert all(peer.is_closed() for peer in idle)
    victim.serves_others()


def test_200_senders_take_what_their_pdus_fill_and_no_more(victim: Victim) -> None:
    before = victim.memory.memory_info().rss
    with ExitStack() as stack:
        for number, host in zip(range(200), hosts(), strict=False):
            peer = stack.enter_context(RawPeer(victim.port, host=host))
            peer.associate()
            assert peer.store(f"1.2.{number}".encode(), bytes(60_000)) == 0x0000
        victim.serves_others()
        assert victim.memory.memory_info().rss - before < 45_000_000


def test_half_sent_pdus_and_silence_from_many_hosts_keep_nobody_out(victim: Victim) -> None:
    openings = [b"", b"\x01", b"\x01\x00\x00\x00", struct.pack(">BxL", 1, 1 << 17) + b"x" * 1000]
    with ExitStack() as stack:
        for number, host in zip(range(120), hosts(), strict=False):
            peer = stack.enter_context(RawPeer(victim.port, host=host))
            peer.send(openings[number % len(openings)])
        victim.serves_others()


def test_announced_giants_are_never_buffered(victim: Victim) -> None:
    for header in (struct.pack(">BxL", 1, 0xFFFFFFFF), struct.pack(">BxL", 4, 0xFFFFFFFF)):
        with RawPeer(victim.port) as peer:
            try:
                peer.send(header)
                for _ in range(100):
                    peer.send(b"x" * (1 << 20))
            except OSError:
                pass  # it was cut off
            else:
                pytest.fail("100 MiB of a PDU that nobody agreed to were taken")
        victim.serves_others()


def test_long_messages_that_never_end_are_not_kept(victim: Victim) -> None:
    with ExitStack() as stack:
        for _, host in zip(range(80), hosts(), strict=False):
            peer = stack.enter_context(RawPeer(victim.port, host=host))
            peer.associate(COMMITMENT)
            with suppress(OSError):  # who does not fit is cut off
                peer.send(p_data(3, commit_command()) + p_data(0, bytes(120_000)) * 34)
        victim.serves_others()
        with RawPeer(victim.port, host=GOOD_HOST) as peer:
            peer.associate(COMMITMENT)
            peer.send(p_data(3, commit_command()) + p_data(2, bytes(20_000)))
            assert peer.status() == FAILED.code


def test_long_requests_that_never_end_are_not_kept(victim: Victim) -> None:
    with ExitStack() as stack:
        for _, host in zip(range(500), hosts(), strict=False):
            peer = stack.enter_context(RawPeer(victim.port, host=host))
            with suppress(OSError):
                peer.send(struct.pack(">BxL", 1, 1 << 18) + b"x" * ((1 << 18) - 1))
        victim.serves_others()


def test_thousands_of_contexts_cost_nothing(victim: Victim) -> None:
    item = b"".join(
        struct.pack(">BxHBxxx", 0x20, len(uid) + 8, 1) + struct.pack(">BxH", 0x30, len(uid)) + uid
        for uid in (f"2.25.{number:012}".encode() for number in range(6000))
    )
    greedy = associate_rq([])[6:] + item
    before = sum(victim.memory.cpu_times()[:2])
    for _ in range(5):
        with RawPeer(victim.port) as peer:
            peer.send(pdu(1, greedy))
            assert peer.read()[0] == ABORT
    assert sum(victim.memory.cpu_times()[:2]) - before < 1.0
    victim.serves_others()


def test_a_peer_that_takes_no_answers_does_not_hold_up_the_stop(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    settings = settings_for(free_port(), network_timeout_s=30.0, drain_s=0.5)
    echo = struct.pack("<HHLL", 0, 0, 4, 56)
    for tag, value in (
        (0x0002, b"1.2.840.10008.1.1\0"),
        (0x0100, struct.pack("<H", 0x0030)),
        (0x0110, struct.pack("<H", 1)),
        (0x0800, struct.pack("<H", 0x0101)),
    ):
        echo += struct.pack("<HHL", 0, tag, len(value)) + value
    with receiver(settings, inbox) as running, RawPeer(running.port) as peer:
        peer.associate("1.2.840.10008.1.1")
        peer.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            while True:
                peer.send(p_data(3, echo) * 100)
        start = time.monotonic()
        running.stop.set()
        assert eventually(lambda: not running.is_running(), timeout_s=8.0)
        assert time.monotonic() - start < 5.0


def test_a_port_scan_leaves_nothing(victim: Victim) -> None:
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", victim.port)) as probe:
            # closes with a reset
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    victim.serves_others()
    assert eventually(lambda: victim.memory.num_threads() < 10)


def test_aborted_transfers_leave_nothing(victim: Victim) -> None:
    for _, host in zip(range(60), hosts(), strict=False):
        with RawPeer(victim.port, host=host) as peer:
            peer.associate()
            peer.send(p_data(3, store_command(b"1.2.3")) + p_data(0, b"x" * 60_000))
    victim.serves_others()
    assert eventually(victim.is_clean)


def test_slow_senders_hold_up_nobody_and_may_finish(victim: Victim) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(RawPeer(victim.port)) for _ in range(20)]
        for number, peer in enumerate(slow):
            peer.associate()
            peer.send(p_data(3, store_command(f"1.3.{number}".encode())))
        for byte in SMALL:
            for peer in slow:
                peer.send(p_data(0, bytes([byte])))
            victim.serves_others()
        for peer in slow:
            peer.send(p_data(2, b""))
        assert [peer.status() for peer in slow] == [0x0000] * len(slow)


def test_one_host_cannot_take_every_connection(victim: Victim) -> None:
    with ExitStack() as stack:
        greedy = [stack.enter_context(RawPeer(victim.port)) for _ in range(60)]
        limit = victim.settings.max_connections_per_host
        for peer in greedy[:limit]:
            peer.associate()
        assert all(peer.is_closed() for peer in greedy[limit:])
        victim.serves_others()


def test_a_flood_of_uids_that_are_paths_writes_nowhere(victim: Victim) -> None:
    before = set(victim.inbox.folder.parent.rglob("*"))
    with RawPeer(victim.port) as peer:
        peer.associate()
        for uid in (b"../../../../etc/x", b"/etc/x", b"..", b"1.2/../../x", b"1.2\\..\\x"):
            assert peer.store(uid, SMALL) == 0x0117
    assert set(victim.inbox.folder.parent.rglob("*")) == before


def test_below_the_low_water_mark_associations_are_rejected_for_now_and_echo_is_not(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0, quota_bytes=500)
    with receiver(settings_for(free_port()), inbox) as running:
        with RawPeer(running.port) as peer:
            peer.associate()
            assert peer.store(b"1.2.3", SMALL * 50) == 0x0000
            assert peer.store(b"1.2.4", SMALL) == 0xA700
        with RawPeer(running.port) as peer:
            peer.send(associate_rq([(US_IMAGE, [EXPLICIT_LE])]))
            # rejected-transient, service-provider (presentation), temporary-congestion
            assert peer.read() == (ASSOCIATE_RJ, b"\0\2\3\1")
        with RawPeer(running.port) as peer:
            peer.send(associate_rq([("1.2.840.10008.1.1", [EXPLICIT_LE])]))
            assert peer.read()[0] == ASSOCIATE_AC
        inbox.remove_duplicate(inbox.waiting()[0])
        with RawPeer(running.port) as peer:
            peer.associate()
            assert peer.store(b"1.2.4", SMALL) == 0x0000

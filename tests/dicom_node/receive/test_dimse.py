"""Messages that are no C-STORE, and where they break the rules."""

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicom_node.inbox import Inbox
from dicom_node.receive import command_set
from dicom_node.receive.budget import BUDGET_BYTES
from dicom_node.receive.contexts import COMMITMENT
from dicom_node.receive.notice_statuses import FAILED
from tests.support.receiving import (
    ABORT,
    ASSOCIATE_AC,
    EXPLICIT_LE,
    P_DATA,
    RELEASE_RP,
    RawPeer,
    Receiver,
    associate_rq,
    commit_command,
    p_data,
    pdu,
    receiver,
    settings_for,
)

pytestmark = pytest.mark.dimse

PIECE = bytes(120_000)
#: so many pieces stay below the limit of one message
PIECES = 34
#: so many such messages fit into the budget
FITTING = BUDGET_BYTES // (len(PIECE) * PIECES)


@pytest.fixture
def running(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Receiver]:
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    settings = settings_for(free_port(), network_timeout_s=30.0)
    with receiver(settings, inbox) as running:
        yield running


def half_a_commitment() -> bytes:
    return p_data(3, commit_command()) + p_data(0, PIECE) * PIECES


def echo_command(changes: Mapping[int, int | str]) -> bytes:
    values: dict[int, int | str] = {
        command_set.AFFECTED_SOP_CLASS_UID: "1.2.840.10008.1.1",
        command_set.COMMAND_FIELD: 0x0030,
        command_set.MESSAGE_ID: 1,
        command_set.COMMAND_DATA_SET_TYPE: command_set.NO_DATA_SET,
    }
    return command_set.encode(values | changes)


def is_aborted(peer: RawPeer) -> bool:
    peer.socket.settimeout(5.0)  # long before the node would give up a silent peer
    return peer.read()[0] == ABORT


def test_messages_of_all_associations_share_one_budget_and_who_does_not_fit_is_aborted(
    running: Receiver,
) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(running.port)) for _ in range(FITTING + 1)]
        for peer in peers:
            peer.associate(COMMITMENT)
            peer.send(half_a_commitment())
        refused, _, _ = select.select([peer.socket for peer in peers], [], [], 20)
        with RawPeer(running.port) as other:  # an ordinary message still comes through
            other.associate(COMMITMENT)
            other.send(p_data(3, commit_command()) + p_data(2, PIECE[:1000]))
            assert other.status() == FAILED.code
        kinds = []
        for peer in peers:
            if peer.socket not in refused:
                peer.send(p_data(2, b""))
            kinds.append(peer.read()[0])
        assert set(kinds) == {ABORT, P_DATA}


def test_messages_that_were_answered_take_nothing_though_their_associations_stand(
    running: Receiver,
) -> None:
    with ExitStack() as stack:
        for _ in range(FITTING + 1):
            peer = stack.enter_context(RawPeer(running.port))
            peer.associate(COMMITMENT)
            peer.send(half_a_commitment() + p_data(2, b""))
            assert peer.status() == FAILED.code


def test_what_an_association_leaves_half_sent_is_given_back_before_its_peer_closes(
    running: Receiver,
) -> None:
    with ExitStack() as stack:
        for _ in range(2 * FITTING):
            leaver = stack.enter_context(RawPeer(running.port))
            leaver.associate(COMMITMENT)
            leaver.send(half_a_commitment() + pdu(5, b"\0\0\0\0"))
            assert leaver.read()[0] == RELEASE_RP
        peer = stack.enter_context(RawPeer(running.port))
        peer.associate(COMMITMENT)
        peer.send(half_a_commitment() + p_data(2, b""))
        assert peer.status() == FAILED.code


def test_a_message_longer_than_any_is_aborted(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate(COMMITMENT)
        peer.send(half_a_commitment() + p_data(0, PIECE))
        assert is_aborted(peer)


def test_a_command_in_a_context_that_was_not_accepted_is_aborted_before_its_data_set(
    running: Receiver,
) -> None:
    with RawPeer(running.port) as peer:
        peer.associate(COMMITMENT)
        peer.send(p_data(3, commit_command(), context_id=3))
        assert is_aborted(peer)


def test_a_context_that_was_proposed_and_not_accepted_does_not_count(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        query = "1.2.840.10008.5.1.4.1.2.2.1"
        peer.send(associate_rq([("1.2.840.10008.1.1", [EXPLICIT_LE]), (query, [EXPLICIT_LE])]))
        assert peer.read()[0] == ASSOCIATE_AC
        peer.send(p_data(1, echo_command({})[:10], context_id=3))
        assert is_aborted(peer)


@pytest.mark.parametrize("header", [1, 2], ids=["the command", "its data set"])
def test_a_message_that_changes_its_context_is_aborted(running: Receiver, header: int) -> None:
    command = commit_command()
    with RawPeer(running.port) as peer:
        both = [(COMMITMENT, [EXPLICIT_LE]), ("1.2.840.10008.1.1", [EXPLICIT_LE])]
        peer.send(associate_rq(both))
        assert peer.read()[0] == ASSOCIATE_AC
        if header == 1:
            peer.send(p_data(1, command[:20]) + p_data(3, command[20:], context_id=3))
        else:
            peer.send(p_data(3, command) + p_data(2, PIECE, context_id=3))
        assert is_aborted(peer)


def test_a_message_whose_values_cannot_be_is_aborted_at_once(running: Receiver) -> None:
    find, priority = 0x0020, 0x0700
    with RawPeer(running.port) as peer:
        peer.associate("1.2.840.10008.1.1")
        peer.send(p_data(3, echo_command({command_set.COMMAND_FIELD: find, priority: 9})))
        assert is_aborted(peer)


def test_an_echo_is_answered_in_its_context(running: Receiver) -> None:
    with RawPeer(running.port) as peer:
        peer.associate("1.2.840.10008.1.1")
        peer.send(p_data(3, echo_command({})))
        assert peer.status() == 0x0000

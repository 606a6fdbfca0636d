"""Modalities: each sends, asks for storage commitment, and repeats what was not acknowledged."""

import queue
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from dicom_node.phantom.study import US_IMAGE, US_MULTIFRAME_IMAGE
from tests.support.receiving import (
    ASSOCIATE_AC,
    EXPLICIT_LE,
    RawPeer,
    associate_rq,
    p_data,
    pdu,
    store_command,
)
from tests.support.requesters import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.torture.studies import Image, commitment

#: how long a modality waits before it tries again
_PAUSE_S = 0.2
#: presentation context of each SOP class
_CONTEXTS = {US_IMAGE: 1, US_MULTIFRAME_IMAGE: 3, PUSH_MODEL: 5}
_PIECE_BYTES = 16000
#: A-RELEASE-RQ (PS3.8 9.3.6)
_RELEASE_RQ = pdu(5, bytes(4))
#: with the port that takes its reports in node.callers
CALLING_AE_TITLE = "MODALITY1"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one modality shall send."""

    images: Sequence[Image]
    #: of the storage commitment that it asks for afterwards, None when it asks for none
    transaction_uid: str | None = None


@dataclass
class Ledger:
    """What was sent, and what of it was acknowledged."""

    images: dict[str, Image] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    #: C-STORE responses with Success, with those for duplicates
    acknowledgements: int = 0
    #: SOP Instance UIDs by Transaction UID: requests for storage commitment with Success
    transactions: dict[str, set[str]] = field(default_factory=dict)
    #: responses with another status
    refusals: int = 0
    #: requests that no response came to
    unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Modality(threading.Thread):
    """One sender.

    Parameters
    ----------
    port : int
        Of the node.
    work : queue.Queue
        Loads to send; None ends it.
    ledger : Ledger
    """

    def __init__(self, port: int, work: "queue.Queue[Load | None]", ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self._port, self._work, self._ledger = port, work, ledger
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send until there is nothing more."""
        while (load := self._work.get()) is not None:
            self._until_done(partial(self._send, left=list(load.images)))
            if load.transaction_uid is not None:
                self._until_done(partial(self._ask, load.images, load.transaction_uid))

    def stop(self) -> None:
        """Give up, whatever was not acknowledged."""
        self._stopped.set()

    def _until_done(self, attempt: Callable[[RawPeer], bool]) -> None:
        """Open associations until an attempt succeeds."""
        while not self._stopped.is_set():
            # AssertionError: RawPeer read something else than it waited for
            with suppress(OSError, AssertionError, ValueError), RawPeer(self._port) as peer:
                peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _associate(peer)
                if attempt(peer):
                    peer.send(_RELEASE_RQ)
                    peer.read()
                    return
            self._stopped.wait(_PAUSE_S)

    def _send(self, peer: RawPeer, *, left: list[Image]) -> bool:
        for image in tuple(left):
            status = self._response(partial(_store, peer, image))
            if status == 0:
                with self._ledger.lock:
                    self._ledger.acknowledgements += 1
                    self._ledger.acknowledged.add(image.sop_instance_uid)
                left.remove(image)
        return not left

    def _ask(self, images: Sequence[Image], transaction_uid: str, peer: RawPeer) -> bool:
        status = self._response(partial(_request_commitment, peer, images, transaction_uid))
        if status == 0:
            uids = {image.sop_instance_uid for image in images}
            with self._ledger.lock:
                self._ledger.transactions[transaction_uid] = uids
        return status == 0

    def _response(self, request: Callable[[], int]) -> int:
        status = -1
        try:
            status = request()
        finally:
            with self._ledger.lock:
                self._ledger.unanswered += status == -1
                self._ledger.refusals += status > 0
        return status


def _associate(peer: RawPeer) -> None:
    contexts = [(sop_class, [EXPLICIT_LE]) for sop_class in _CONTEXTS]
    peer.send(associate_rq(contexts, calling=CALLING_AE_TITLE, called="NODE"))
    kind, _ = peer.read()
    assert kind == ASSOCIATE_AC


def _store(peer: RawPeer, image: Image) -> int:
    context = _CONTEXTS[image.sop_class_uid]
    command = store_command(image.sop_instance_uid.encode(), sop_class_uid=image.sop_class_uid)
    peer.send(p_data(3, command, context))
    data = image.data
    for start in range(0, len(data), _PIECE_BYTES):
        is_last = start + _PIECE_BYTES >= len(data)
        peer.send(p_data(2 if is_last else 0, data[start : start + _PIECE_BYTES], context))
    return peer.status()


def _request_commitment(peer: RawPeer, images: Sequence[Image], transaction_uid: str) -> int:
    """Send an N-ACTION (PS3.7 10.3.4, PS3.4 J.3.2); return the status."""
    context = _CONTEXTS[PUSH_MODEL]
    values = (
        (0x0003, PUSH_MODEL.encode()),
        (0x0100, struct.pack("<H", 0x0130)),
        (0x0110, struct.pack("<H", 7)),
        (0x0800, struct.pack("<H", 0x0000)),
        (0x1001, PUSH_MODEL_INSTANCE.encode()),
        (0x1008, struct.pack("<H", 1)),
    )
    padded = [(element, value + b"\0" * (len(value) % 2)) for element, value in values]
    body = b"".join(struct.pack("<HHL", 0, element, len(v)) + v for element, v in padded)
    peer.send(p_data(3, struct.pack("<HHLL", 0, 0, 4, len(body)) + body, context))
    peer.send(p_data(2, commitment(images, transaction_uid), context))
    return peer.status()

"""Modalities: each sends over one association, and sends again what was not acknowledged."""

import queue
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.phantom.study import US_IMAGE, US_MULTIFRAME_IMAGE
from tests.support.receiving import (
    ASSOCIATE_AC,
    EXPLICIT_LE,
    P_DATA,
    RawPeer,
    associate_rq,
    p_data,
    store_command,
)
from tests.torture.studies import Image

#: how long a modality waits before it tries again
_PAUSE_S = 0.2
#: presentation context of each SOP class
_CONTEXTS = {US_IMAGE: 1, US_MULTIFRAME_IMAGE: 3}
_PIECE_BYTES = 16000


@dataclass
class Ledger:
    """What was sent, and what of it was acknowledged."""

    images: dict[str, Image] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    #: C-STORE responses with Success, with those for duplicates
    acknowledgements: int = 0
    #: C-STORE responses with another status
    refusals: int = 0
    #: C-STORE requests that no response came to
    unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Modality(threading.Thread):
    """One sender.

    Parameters
    ----------
    port : int
        Of the node.
    work : queue.Queue
        Lists of images to send; None ends it.
    ledger : Ledger
    """

    def __init__(
        self, port: int, work: "queue.Queue[Sequence[Image] | None]", ledger: Ledger
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._work, self._ledger = port, work, ledger
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send until there is nothing more."""
        while (images := self._work.get()) is not None:
            left = list(images)
            while left and not self._stopped.is_set():
                left = self._attempt(left)
                if left:
                    self._stopped.wait(_PAUSE_S)
            self._work.task_done()

    def stop(self) -> None:
        """Give up, whatever was not acknowledged."""
        self._stopped.set()

    def _attempt(self, images: list[Image]) -> list[Image]:
        """Send over one association; return what was not acknowledged."""
        left = list(images)
        # AssertionError: RawPeer read something else than it waited for
        try:
            with RawPeer(self._port) as peer:
                peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _associate(peer)
                for image in images:
                    if self._store(peer, image):
                        left.remove(image)
                peer.send(struct.pack(">BxLL", 5, 4, 0))
                peer.read()
        except (OSError, AssertionError, ValueError):
            pass
        return left

    def _store(self, peer: RawPeer, image: Image) -> bool:
        ledger = self._ledger
        status = -1
        try:
            status = _stored(peer, image)
        finally:
            with ledger.lock:
                ledger.unanswered += status == -1
                ledger.acknowledgements += status == 0
                ledger.refusals += status > 0
                if status == 0:
                    ledger.acknowledged.add(image.sop_instance_uid)
        return status == 0


def _associate(peer: RawPeer) -> None:
    contexts = [(sop_class, [EXPLICIT_LE]) for sop_class in _CONTEXTS]
    peer.send(associate_rq(contexts, called="NODE"))
    kind, _ = peer.read()
    assert kind == ASSOCIATE_AC


def _stored(peer: RawPeer, image: Image) -> int:
    context = _CONTEXTS[image.sop_class_uid]
    command = store_command(image.sop_instance_uid.encode(), sop_class_uid=image.sop_class_uid)
    peer.send(p_data(3, command, context))
    data = image.data
    for start in range(0, len(data), _PIECE_BYTES):
        is_last = start + _PIECE_BYTES >= len(data)
        peer.send(p_data(2 if is_last else 0, data[start : start + _PIECE_BYTES], context))
    assert P_DATA
    return peer.status()

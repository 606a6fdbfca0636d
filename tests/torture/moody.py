"""A PACS that restarts, drops the line and refuses: all of it follows from the seed."""

import hashlib
import random
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.config import Destination
from tests.support.owed import SEG

#: C-STORE answers that are not Success, and what is done to the line, each with its share
OUT_OF_RESOURCES, DROPPED_BEFORE, DROPPED_AFTER = "0xA700", "dropped before", "dropped after"
_SHARES: Final = ((OUT_OF_RESOURCES, 0.2), (DROPPED_BEFORE, 0.08), (DROPPED_AFTER, 0.08))
CANNOT_UNDERSTAND: Final = 0xC000
_UP_S, _DOWN_S = (3.0, 8.0), (0.5, 1.5)


@dataclass
class Stored:
    """What the PACS keeps over its restarts."""

    #: SHA-256 of the data set, by SOP Instance UID
    objects: dict[str, str] = field(default_factory=dict)
    redelivered: int = 0
    #: came again with other bytes
    changed: set[str] = field(default_factory=set)
    moods: Counter[str] = field(default_factory=Counter)
    restarts: int = 0


class MoodyPacs:
    """A storage SCP for SEG alone.

    Parameters
    ----------
    port : int
    seed : int
    """

    def __init__(self, port: int, seed: int) -> None:
        self.stored = Stored()
        self.destination = Destination(
            name="moody", ae_title="MOODY", host="127.0.0.1", port=port, timeout_s=10.0
        )
        #: SOP Instance UIDs that are answered with 0xC000
        self.refused: set[str] = set()
        self._rng, self._seed = random.Random(f"moody {seed}"), seed
        self._lock = threading.Lock()
        self._scp: AE | None = None
        self._is_calm = False
        self._change_at = 0.0

    def turn(self) -> None:
        """Restart when it is time for it; called often."""
        if self._is_calm or time.monotonic() < self._change_at:
            return
        if self._scp is None:
            self._start()
        else:
            self.stop()
            self.stored.restarts += 1
        low, high = _DOWN_S if self._scp is None else _UP_S
        self._change_at = time.monotonic() + self._rng.uniform(low, high)

    def calm_down(self) -> None:
        """Stay up from now on, and take everything but what is refused for good."""
        self._is_calm = True
        if self._scp is None:
            self._start()

    def stop(self) -> None:
        """Hang up and close."""
        if self._scp is not None:
            self._scp.shutdown()
            self._scp = None

    def _start(self) -> None:
        ae = AE(ae_title="MOODY")
        ae.add_supported_context(SEG, [ExplicitVRLittleEndian])
        ae.start_server(
            ("127.0.0.1", self.destination.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._take)],
        )
        self._scp = ae

    def _take(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            if uid in self.refused:
                return CANNOT_UNDERSTAND
            mood = self._mood()
            if mood == OUT_OF_RESOURCES:
                return 0xA700
            if mood != DROPPED_BEFORE:
                self._keep(uid, event.encoded_dataset(include_meta=False))
        if mood:
            _drop(event.assoc)
        return 0x0000

    def _mood(self) -> str:
        if self._is_calm:
            return ""
        drawn = self._rng.random()
        for mood, share in _SHARES:
            if drawn < share:
                self.stored.moods[mood] += 1
                return mood
            drawn -= share
        return ""

    def _keep(self, uid: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        before = self.stored.objects.get(uid)
        if before is not None:
            self.stored.redelivered += 1
            if before != sha256:
                self.stored.changed.add(uid)
        self.stored.objects[uid] = sha256


def _drop(assoc: Any) -> None:
    """Cut the line under an association, as a switch that fails does."""
    connection = assoc.dul.socket.socket
    connection.shutdown(socket.SHUT_RDWR)

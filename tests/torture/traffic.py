"""What the modalities send: studies, duplicates at the same time, duplicates later."""

import queue
import random
import time

from tests.torture.destination import Archive
from tests.torture.modalities import Ledger, Load, Modality
from tests.torture.studies import study, transaction_uid

#: so many images may wait for their results before the next study begins
_MOST_WAITING = 12
_TWICE_AT_ONCE, _AGAIN_LATER = 0.15, 0.15
#: for so many studies the modality asks for storage commitment
_ASKING = 0.5
_LATEST_S = 4.0


class Traffic:
    """Keeps several modalities busy, and no busier than the node can answer.

    Parameters
    ----------
    port : int
        Of the node.
    archive : Archive
        Where the results go.
    modalities : int
        How many send at a time.
    seed : int
    """

    def __init__(self, port: int, archive: Archive, *, modalities: int, seed: int) -> None:
        self.ledger = Ledger()
        self.studies = 0
        self._archive = archive
        self._seed, self._rng = seed, random.Random(f"traffic {seed}")
        self._work: queue.Queue[Load | None] = queue.Queue()
        self._later: list[tuple[float, Load]] = []
        self._waiting: set[str] = set()
        self._modalities = [Modality(port, self._work, self.ledger) for _ in range(modalities)]
        for modality in self._modalities:
            modality.start()

    def feed(self) -> None:
        """Begin studies while there is room, and send again what is due."""
        self._waiting = {uid for uid in self._waiting if not self._archive.has_all(uid)}
        while len(self._waiting) < _MOST_WAITING:
            self._begin()
        now = time.monotonic()
        for at, load in list(self._later):
            if at <= now:
                self._later.remove((at, load))
                self._work.put(load)

    def finish(self) -> None:
        """Begin nothing more; send what is left."""
        for _, load in self._later:
            self._work.put(load)
        self._later.clear()
        for _ in self._modalities:
            self._work.put(None)

    @property
    def is_over(self) -> bool:
        """Whether everything was acknowledged, after `finish`."""
        return not any(modality.is_alive() for modality in self._modalities)

    @property
    def unanswered(self) -> set[str]:
        """Images whose results have not all come."""
        return {uid for uid in self.ledger.images if not self._archive.has_all(uid)}

    def stop(self) -> None:
        """Give up."""
        self.finish()
        for modality in self._modalities:
            modality.stop()
        for modality in self._modalities:
            modality.join(30)

    def _begin(self) -> None:
        number = self.studies
        images = study(self._seed, number)
        self.studies += 1
        self._rng.shuffle(images)
        with self.ledger.lock:
            self.ledger.images.update({image.sop_instance_uid: image for image in images})
        self._waiting.update(image.sop_instance_uid for image in images)
        is_asking = self._rng.random() < _ASKING
        asked = transaction_uid(self._seed, number) if is_asking else None
        self._work.put(Load(images=images, transaction_uid=asked))
        chance = self._rng.random()
        if chance < _TWICE_AT_ONCE:
            self._work.put(Load(images=images))
        elif chance < _TWICE_AT_ONCE + _AGAIN_LATER:
            due = time.monotonic() + self._rng.uniform(0.5, _LATEST_S)
            self._later.append((due, Load(images=images)))

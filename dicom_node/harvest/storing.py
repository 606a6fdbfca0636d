"""What was decoded goes into the store: as many stills at once as wait, and each cine by itself.

A still costs the disk as much waiting as a cine does, so that those that are decoded already share
it. Nothing is waited for to make more of them.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from dicom_node.errors import PixelError
from dicom_node.harvest.ahead import Ahead
from dicom_node.harvest.counts import HarvestCount, Skip
from dicom_node.harvest.decoding import Over, Seen
from dicom_node.harvest.harvester import Frame, store_image
from dicom_node.harvest.looking import Look, Picture
from dicom_node.harvest.private import KnownPatient, Note, PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.words import patient_of
from dicom_node.records import Instance
from dicom_node.store import Together, WeakLabelStore

#: An erasure waits for so many images at most, as does who asked for them.
MOST_IMAGES = 16
#: What an image and its counts are told by.
Told = tuple[Instance, dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class _Done:
    """An image that was put, and what is to be noted of it."""

    instance: Instance
    counts: dict[str, int]
    note: Note | None = None


@dataclass(frozen=True, kw_only=True)
class Storing:
    """Images on their way into the store."""

    store: WeakLabelStore
    key: PseudonymKey
    notes: PrivateNotes
    tables: Tables
    #: so far: images of a study say the same again and again
    noted: set[Note] = field(default_factory=set)
    #: what the notes say of a patient and a study, while no erasure can change it
    _known: dict[tuple[str, str], KnownPatient] = field(default_factory=dict)

    def all(self, seen: Ahead[Seen]) -> Generator[Told, None, None]:
        """Store all images; yields each when it is durable, in order."""
        look = next(seen, None)
        while isinstance(look, Look):
            durable: list[_Done] = []
            try:
                look = self._some(look, seen, durable)
            finally:  # what failed may be the fourth of them: three are durable
                yield from ((one.instance, one.counts) for one in durable)
            look = look or next(seen, None)

    def _some(self, look: Look, seen: Ahead[Seen], durable: list[_Done]) -> Seen | None:
        """Store an image and those that wait behind it; return what came after them, if it did."""
        done: list[_Done] = []
        with self.store.holding_off_erasure():
            self._known.clear()
            try:
                with self.store.together() as together:
                    return self._put(look, seen, together, done)
            finally:  # the frames are durable before the notes, and both before anybody is told
                durable += done[: together.durable]
                self._note(durable)

    def _note(self, durable: Iterable[_Done]) -> None:
        notes = dict.fromkeys(one.note for one in durable if one.note is not None)
        if notes:
            self.notes.record_all(notes)
            self.noted.update(notes)

    def _put(
        self, look: Look, seen: Ahead[Seen], together: Together, done: list[_Done]
    ) -> Seen | None:
        while True:
            frames = _frames_of(seen)
            one = self._one(look, frames, together)
            with suppress(PixelError):  # those that nobody wanted after all
                deque(frames, maxlen=0)
            done.append(one)
            together.keep()
            following = next(seen) if seen.waits else None
            if not isinstance(following, Look) or not _joins(following, together, done):
                return following
            look = following

    def _one(self, look: Look, frames: Iterable[Frame], together: Together) -> _Done:
        def put() -> dict[str, int]:
            count = store_image(
                look,
                frames,
                store=self.store,
                together=together,
                key=self.key,
                tables=self.tables,
            )
            return count.as_dict()

        if look.words is None:
            return _Done(instance=look.instance, counts=put())
        study = look.instance.study_instance_uid
        patient = patient_of(look.words, study)
        token = self.key.token("patient", patient)
        known = self._known.get((token, study))
        if known is None:
            known = self.notes.known(self.key.token("refused", patient), study, token)
            self._known[token, study] = known
        if known.is_refused:
            refused = HarvestCount(skipped={Skip.PATIENT_REFUSED: 1})
            return _Done(instance=look.instance, counts=refused.as_dict())
        counts = put()
        note = look.words, study, token
        # what was erased since is noted anew
        is_new = note not in self.noted or not known.has_study
        return _Done(instance=look.instance, counts=counts, note=note if is_new else None)


def _joins(look: Look, together: Together, done: list[_Done]) -> bool:
    """Whether an image goes into the store with those before it: it is as good as decoded."""
    if together.is_full or len(done) >= MOST_IMAGES:
        return False
    if look.instance.sop_instance_uid in {one.instance.sop_instance_uid for one in done}:
        return False  # the same again is held against what is stored
    if not isinstance(look.found, Picture):
        return True
    return len(look.found.wanted) - len(look.known.intersection(look.found.wanted)) <= 1


def _frames_of(seen: Iterator[Seen]) -> Iterator[Frame]:
    """Yield the frames up to the end of their instance."""
    for item in seen:
        if isinstance(item, tuple):
            yield item
            continue
        if isinstance(item, Over) and item.fault is not None:
            raise item.fault
        return

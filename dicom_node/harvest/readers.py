"""What readers said in SEG and SR objects, into the store.

An object is looked at when it comes, and again when its study was harvested: one that came before
its images waits for them. Looking again changes nothing.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.errors import PermanentError, StoreError, UnreadableError
from dicom_node.harvest.private import PrivateNotes
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.reader_codes import ReaderCodes
from dicom_node.harvest.reader_notes import Fate, Noted, ReaderNotes
from dicom_node.harvest.reader_objects import READER_OBJECTS, Head, read_head
from dicom_node.harvest.scores import Score, evidence_of, scores_of
from dicom_node.harvest.segment_planes import Find, images_of, named_images, planes_of
from dicom_node.harvest.segmentations import (
    SEG_KEYWORDS,
    Lie,
    SeenCode,
    lie_on,
    masks_of,
    segments_of,
)
from dicom_node.header import BROKEN_BYTES, read_header, text
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Instance
from dicom_node.store import Origin, Provenance, Reading, WeakLabelStore

NOT_STORED: Final = "frame that the store does not keep"
NOBODY: Final = "names no person: a device wrote it, and nobody verified it"
SAYS_NOTHING: Final = "says nothing that the store has a label for"


@dataclass(kw_only=True)
class _Said:
    """What an object says."""

    #: SOP Instance UIDs of the images that it names
    images: list[str]
    #: by image
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    #: images that are not in the store
    missing: list[str] = field(default_factory=list)
    unmapped: Sequence[SeenCode] = ()
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return sum(len(said) for said in self.readings.values())

    @property
    def fate(self) -> Fate:
        if self.missing:
            return Fate.WAITING
        return Fate.USED if self.count else Fate.NOT_USED


class ReaderLabels:
    """Puts the labels of readers' objects into a store.

    Parameters
    ----------
    store : WeakLabelStore
    key : PseudonymKey
    notes : ReaderNotes
        The private side.
    private : PrivateNotes
        They know whom the node is not to take in.
    codes : ReaderCodes
        What codes stand for.
    sandbox : PixelSandbox
        Decodes planes; nobody else uses it.
    """

    def __init__(
        self,
        *,
        store: WeakLabelStore,
        key: PseudonymKey,
        notes: ReaderNotes,
        private: PrivateNotes,
        codes: ReaderCodes,
        sandbox: PixelSandbox,
    ) -> None:
        self._store, self._key, self._sandbox = store, key, sandbox
        self.notes, self.codes, self._private = notes, codes, private
        # two jobs may look at the same study
        self._lock = threading.Lock()

    def take(
        self, objects: Iterable[Instance], *, find: Find, is_ours: Callable[[str], bool]
    ) -> dict[str, int]:
        """Put what objects say into the store; one that cannot be used costs itself only.

        Parameters
        ----------
        objects : iterable of Instance
            Of the classes `READER_OBJECTS`.
        find : callable
            Finds a registered instance by its UID.
        is_ours : callable
            Tells the SOP Instance UIDs of this node's own results.

        Returns
        -------
        dict
            How many objects by what became of them, and how many labelled frames.

        Raises
        ------
        TemporaryError
            When the disk does not take it.
        """
        counts: Counter[str] = Counter()
        with self._lock:
            for instance in objects:
                # an erasure comes before the question whether he is refused, or after the note
                with self._store.holding_off_erasure():
                    fate, readings = self._take(instance, find, is_ours)
                counts[fate.value] += 1
                counts["labels"] += readings
        return dict(+counts)

    def rest(self) -> None:
        """End the decoder: most studies have no such object, and it need not wait for them."""
        with self._lock:
            self._sandbox.close()

    def _take(
        self, instance: Instance, find: Find, is_ours: Callable[[str], bool]
    ) -> tuple[Fate, int]:
        uid, origin = instance.sop_instance_uid, READER_OBJECTS[instance.sop_class_uid]
        if self._is_refused(instance):
            self.notes.erase([self._key.token("study", instance.study_instance_uid)])
            return Fate.REFUSED, 0
        try:
            head, header = read_head(instance.path, origin, SEG_KEYWORDS)
            if head.is_ours or is_ours(uid):
                return self._note(instance, _Said(images=[]), fate=Fate.OURS)
            said = self._read(instance, head, header, find)
        except BROKEN_BYTES as exc:
            return self._give_up(instance, f"not readable as DICOM ({type(exc).__name__})")
        except PermanentError as exc:
            return self._give_up(instance, str(exc))
        # its place among the objects of its images is known from here on
        self._note(instance, said, said_at=head.said_at, fate=Fate.WAITING)
        self._put(instance, head, said)
        return self._note(instance, said, said_at=head.said_at)

    def _is_refused(self, instance: Instance) -> bool:
        """Whether its patient is not to be taken in; without Patient ID a study is one."""
        try:
            patient = text(read_header(instance.path, ("PatientID",)), "PatientID")
        except UnreadableError:
            patient = ""  # whoever reads on says why
        study = instance.study_instance_uid
        return self._private.refuses(self._key.token("refused", patient or study))

    def _read(self, instance: Instance, head: Head, header: Dataset, find: Find) -> _Said:
        if head.origin is Origin.SEG:
            return self._segmentation(instance, header, find)
        if not head.has_person:
            raise UnreadableError(NOBODY)
        return self._report(header)

    def _segmentation(self, instance: Instance, header: Dataset, find: Find) -> _Said:
        segments = segments_of(header, self.codes)
        planes, faults = planes_of(header, find) if segments.meanings else ([], Counter[str]())
        said = _Said(
            images=named_images(header),
            unmapped=segments.unmapped,
            reasons=Counter(segments.faults) + faults,
        )
        for image, drawn in images_of(planes).items():
            stored = self._stored(image)
            if not stored:
                said.missing.append(image)
                continue
            said.reasons[NOT_STORED] += len({plane.frame for plane in drawn} - stored)
            kept = [plane for plane in drawn if plane.frame in stored]
            try:
                lie = self._lie(header, image, find)
                said.readings[image] = masks_of(
                    instance.path, header, kept, segments, lie=lie, sandbox=self._sandbox
                )
            except PermanentError as exc:
                said.reasons[str(exc)] += 1
        return said

    def _lie(self, header: Dataset, image: str, find: Find) -> Lie:
        token, known = self._key.token("instance", image), find(image)
        path = None if known is None else known.path
        return lie_on(header, path, self._store.crop_of(token), self._store.source_size(token))

    def _report(self, header: Dataset) -> _Said:
        found = scores_of(header, self.codes)
        named = dict.fromkeys((*evidence_of(header), *(one.image for one in found.scores)))
        said = _Said(images=list(named), unmapped=found.unmapped, reasons=found.faults)
        by_image: dict[str, list[Score]] = {}
        for one in found.scores:
            by_image.setdefault(one.image, []).append(one)
        for image, scores in by_image.items():
            stored = self._stored(image)
            if stored:
                frames = {frame for one in scores for frame in one.frames}
                said.reasons[NOT_STORED] += len(frames - stored)
                said.readings[image] = _scored(scores, stored)
            else:
                said.missing.append(image)
        return said

    def _stored(self, image: str) -> frozenset[int]:
        return self._store.readers.stored_numbers(self._key.token("instance", image))

    def _put(self, instance: Instance, head: Head, said: _Said) -> None:
        provenance = Provenance(
            reader=self._key.token("reader", head.who),
            object=self._key.token("object", instance.sop_instance_uid),
            origin=head.origin,
            software=head.software,
            observer=head.observer,
        )
        for image in said.images:
            if not self._stored(image):
                continue
            token, order = self._key.token("instance", image), self.notes.order(image)
            try:
                self._store.readers.put(
                    token, provenance, said.readings.get(image, ()), order=order
                )
            except StoreError as exc:
                said.readings.pop(image, None)
                said.reasons[str(exc)] += 1

    def _give_up(self, instance: Instance, reason: str) -> tuple[Fate, int]:
        said = _Said(images=[], reasons=Counter({reason: 1}))
        return self._note(instance, said)

    def _note(
        self,
        instance: Instance,
        said: _Said,
        *,
        said_at: datetime | None = None,
        fate: Fate | None = None,
    ) -> tuple[Fate, int]:
        reasons = +said.reasons
        fate = fate or said.fate
        if fate is Fate.NOT_USED and not reasons:
            reasons[SAYS_NOTHING] = 1
        received = instance.received_at
        noted = Noted(
            name=instance.sop_instance_uid,
            study_instance_uid=instance.study_instance_uid,
            origin=READER_OBJECTS[instance.sop_class_uid].value,
            study=self._key.token("study", instance.study_instance_uid),
            object=self._key.token("object", instance.sop_instance_uid),
            # a clock that is ahead does not win for ever
            said_at=min(said_at or received, received),
            received_at=received,
            fate=fate,
            readings=said.count,
            reasons=reasons,
        )
        self.notes.record(noted, said.images, said.unmapped)
        return fate, said.count


def _scored(scores: Sequence[Score], stored: frozenset[int]) -> list[Reading]:
    """Return the scores of stored frames; of two on one frame the later item of the report."""
    found: dict[tuple[int, str], Reading] = {}
    for one in scores:
        for frame in sorted(stored.intersection(one.frames) if one.frames else stored):
            found[frame, one.about] = Reading(frame_number=frame, about=one.about, value=one.value)
    return list(found.values())

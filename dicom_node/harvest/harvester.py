"""One instance into the store: region, sampled frames, weak labels, pseudonyms.

What lies outside the B-mode region never enters the store. Text that a scanner burned into the
region itself does: such frames can only be told by ``burned_in_annotation``, which is true unless
the scanner denied it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import HarvestSettings
from dicom_node.errors import PixelError, StoreError, UnreadableError
from dicom_node.harvest.evidence import description_of, evidence_of
from dicom_node.harvest.labels import labels_of
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.sampling import hardly_differ, sampled
from dicom_node.harvest.scan_area import ScanArea, scan_area
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.words import Words, patient_of, read_words
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import ImageFacts, Instance
from dicom_node.sop_classes import ULTRASOUND_IMAGES
from dicom_node.store import NewFrame, WeakLabelStore
from dicom_node.store.files import digest

#: A picture with fewer pixels above this grey than this part of all is black.
DARK_GREY = 16
BLACK_SHARE = 0.001


class Skip(StrEnum):
    """Why something was not stored; counts frames, or objects where frames are not known."""

    NOT_ULTRASOUND = "not ultrasound"
    UNREADABLE = "unreadable"
    NOT_AN_IMAGE = "not an image"
    NO_REGION = "no region"
    UNDECODABLE = "undecodable"
    BLACK = "black"
    #: the same pixels are there, from another frame or instance
    DUPLICATE = "duplicate"
    #: hardly anything moved since the frame of the clip that was kept last
    NEAR_DUPLICATE = "near duplicate"
    #: this very frame is there from an earlier run
    ALREADY_STORED = "already stored"
    #: the store holds other pixels under this SOP Instance UID
    REFUSED = "refused"
    #: erased, and not to be taken in again
    PATIENT_REFUSED = "patient refused"


@dataclass(frozen=True, kw_only=True)
class HarvestCount:
    """What became of one instance."""

    frames_stored: int = 0
    skipped: Mapping[Skip, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """Return the counts under plain names."""
        return {"frames stored": self.frames_stored} | {
            skip.value: count for skip, count in self.skipped.items()
        }


def harvest_instance(
    instance: Instance,
    *,
    sandbox: PixelSandbox,
    store: WeakLabelStore,
    key: PseudonymKey,
    settings: HarvestSettings,
    tables: Tables,
) -> HarvestCount:
    """Put the frames of an instance into the store; may be repeated at any time.

    Parameters
    ----------
    instance : Instance
        Anything that was received; what is no ultrasound image is counted and left.
    sandbox : PixelSandbox
        Decodes the frames.
    store : WeakLabelStore
        Gets the pixels inside the B-mode region and nothing else of them.
    key : PseudonymKey
        Turns identifiers into pseudonyms.
    settings : HarvestSettings
        How cines are sampled.
    tables : Tables
        What words stand for.

    Raises
    ------
    TemporaryError
        When the disk does not take it.
    """
    if instance.sop_class_uid not in ULTRASOUND_IMAGES:
        return HarvestCount(skipped={Skip.NOT_ULTRASOUND: 1})
    try:
        words, facts = read_words(instance.path), read_facts(instance.path)
    except UnreadableError:
        return HarvestCount(skipped={Skip.UNREADABLE: 1})
    except PixelError:
        return HarvestCount(skipped={Skip.NOT_AN_IMAGE: 1})
    wanted = sampled(
        facts.number_of_frames,
        frame_time_s=words.frame_time_s,
        frames_per_s=settings.frames_per_s,
        most_frames=settings.max_frames_per_clip,
    )
    area = _area(facts, instance, wanted[0], sandbox, settings)
    if isinstance(area, Skip):
        return HarvestCount(skipped={area: len(wanted)})
    blank = _Blank(instance, words, facts, area, tables, key)
    return _store_frames(blank, wanted, sandbox, store)


def _area(
    facts: ImageFacts,
    instance: Instance,
    first: int,
    sandbox: PixelSandbox,
    settings: HarvestSettings,
) -> ScanArea | Skip:
    """Return where the scan lies: as the header says, or as it is seen if the site wants that."""
    if facts.region is not None:
        size = facts.region.height, facts.region.width
        return ScanArea(box=facts.region, inside=np.broadcast_to(np.True_, size))
    if settings.no_region == "skip":
        return Skip.NO_REGION
    try:
        [(_, frame)] = sandbox.frames(instance.path, [first])
    except PixelError:
        return Skip.UNDECODABLE
    return scan_area(frame) or Skip.NO_REGION


class _Blank:
    """All of a frame's record but its pixels."""

    def __init__(
        self,
        instance: Instance,
        words: Words,
        facts: ImageFacts,
        area: ScanArea,
        tables: Tables,
        key: PseudonymKey,
    ) -> None:
        self.path = instance.path
        self.area = area
        self._facts, self._labels = facts, labels_of(words, tables)
        patient = patient_of(words, instance.study_instance_uid)
        self.instance = key.token("instance", instance.sop_instance_uid)
        self._tokens = {
            "patient": key.token("patient", patient),
            "study": key.token("study", instance.study_instance_uid),
            "series": key.token("series", instance.series_instance_uid),
            "instance": self.instance,
        }
        self._evidence = evidence_of(words, tables, key)
        self._may_show_text = words.may_show_text
        self._frame_time_s = words.frame_time_s if facts.number_of_frames > 1 else None

    def is_the_one_in(self, store: WeakLabelStore) -> bool:
        """Whether the stored instance of this name has the same picture size and region."""
        size = self._facts.rows, self._facts.columns
        return (store.source_size(self.instance), store.crop_of(self.instance)) == (
            size,
            self.area.box,
        )

    def filled(self, number: int, pixels: NDArray[np.uint8]) -> NewFrame:
        """Return the record of one frame."""
        return NewFrame(
            pixels=pixels,
            **self._tokens,
            frame_number=number,
            rows=self._facts.rows,
            columns=self._facts.columns,
            crop=self.area.box,
            probe=self._labels.probe,
            geometry=self._labels.geometry,
            geometry_rule=self._labels.geometry_rule,
            groups=self._labels.groups,
            description=description_of(self._evidence),
            spacing_mm=self._facts.spacing_mm,
            burned_in_annotation=self._may_show_text,
            evidence=self._evidence,
            number_of_frames=self._facts.number_of_frames,
            frame_time_s=self._frame_time_s,
        )


def _store_frames(
    blank: _Blank, wanted: list[int], sandbox: PixelSandbox, store: WeakLabelStore
) -> HarvestCount:
    clip = _Clip(store, blank)
    if clip.known and not blank.is_the_one_in(store):
        return HarvestCount(skipped={Skip.REFUSED: len(wanted)})
    missing = [number for number in wanted if number not in clip.known]
    skipped = Counter({Skip.ALREADY_STORED: len(wanted) - len(missing)})
    stored = seen = 0
    try:
        for number, frame in sandbox.frames(blank.path, missing) if missing else ():
            seen += 1
            fault = clip.put(number, frame)
            stored += fault is None
            skipped[fault or Skip.BLACK] += fault is not None
    except PixelError:
        skipped[Skip.UNDECODABLE] += len(missing) - seen
    return HarvestCount(frames_stored=stored, skipped=dict(+skipped))


class _Clip:
    """A clip on its way into the store, frame by frame."""

    def __init__(self, store: WeakLabelStore, blank: _Blank) -> None:
        self._store, self._blank = store, blank
        #: what an earlier harvest knew, by frame number
        self.known = {one.frame_number: one.frame_id for one in store.clip(blank.instance)}
        self._last: tuple[int, str, NDArray[np.uint8]] | None = None

    def put(self, number: int, frame: NDArray[np.uint8]) -> Skip | None:
        """Store a frame unless there is a reason not to, and return that."""
        area = self._blank.area
        # a copy: nothing outside the region stays reachable from what is stored
        pixels = np.where(area.inside, frame[area.box.slices], np.uint8(0))
        if (pixels > DARK_GREY).mean() < BLACK_SHARE:
            return Skip.BLACK
        frame_id = digest(pixels)
        is_there = self._store.has_frame(frame_id)
        try:
            if not is_there and (like := self._like(number, pixels)):
                self._store.add_repeat(self._blank.instance, number, like)
                return Skip.NEAR_DUPLICATE
            self._store.add_frame(self._blank.filled(number, pixels))
        except StoreError:
            return Skip.REFUSED
        self._last = number, frame_id, pixels
        return Skip.DUPLICATE if is_there else None

    def _like(self, number: int, pixels: NDArray[np.uint8]) -> str | None:
        """Return the frame that was kept last before this one, if they hardly differ."""
        earlier = max((n for n in self.known if n < number), default=0)
        if earlier and (self._last is None or self._last[0] < earlier):
            frame_id = self.known[earlier]
            self._last = earlier, frame_id, self._store.pixels(frame_id)
        if self._last is None or not hardly_differ(self._last[2], pixels):
            return None
        return self._last[1]

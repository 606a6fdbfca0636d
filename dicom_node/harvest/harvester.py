"""One image into the store: region, sampled frames, weak labels, pseudonyms.

What lies outside the B-mode region never enters the store. Text that a scanner burned into the
region itself does, unless `harvest.burned_in` is ``skip``: such frames can only be told by
``burned_in_annotation``, which is true unless the scanner denied it.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import PixelError, StoreError
from dicom_node.harvest.counts import HarvestCount, Skip
from dicom_node.harvest.evidence import description_of, evidence_of
from dicom_node.harvest.labels import labels_of
from dicom_node.harvest.looking import Look, Picture
from dicom_node.harvest.pseudonyms import PseudonymKey
from dicom_node.harvest.sampling import hardly_differ
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.words import Words, patient_of
from dicom_node.records import Instance
from dicom_node.store import NewFrame, Sighting, Together, WeakLabelStore

#: A picture with fewer pixels above this grey than this part of all is black.
DARK_GREY = 16
BLACK_SHARE = 0.001
#: A frame number and its grey picture.
Frame = tuple[int, NDArray[np.uint8]]


def store_image(
    look: Look,
    frames: Iterable[Frame],
    *,
    store: WeakLabelStore,
    together: Together,
    key: PseudonymKey,
    tables: Tables,
) -> HarvestCount:
    """Put the frames of an image into the store; may be repeated at any time.

    Parameters
    ----------
    look : Look
        What was seen of the image.
    frames : iterable
        Those of its wanted frames that the store did not have, decoded. May raise PixelError.
    store : WeakLabelStore
        Asked for what it has.
    together : Together
        Gets the pixels inside the B-mode region and nothing else of them.
    key : PseudonymKey
        Turns identifiers into pseudonyms.
    tables : Tables
        What words stand for.

    Raises
    ------
    TemporaryError
        When the disk does not take it.
    """
    if isinstance(look.found, HarvestCount) or look.words is None:
        return look.found if isinstance(look.found, HarvestCount) else HarvestCount()
    blank = _Blank(look.instance, look.words, look.found, tables, key)
    # what the store did not have a moment ago is compared when it is added
    known = store.clip(blank.instance) if look.known else ()
    lost = store.lost(known)
    clip = _Clip(store, together, blank, (one for one in known if one.frame_id not in lost))
    wanted = look.found.wanted
    if clip.known and not blank.is_the_one_in(store):
        return HarvestCount(skipped={Skip.REFUSED: len(wanted)})
    missing = sum(number not in clip.known for number in wanted)
    skipped = Counter({Skip.ALREADY_STORED: len(wanted) - missing})
    stored = seen = 0
    try:
        for number, frame in frames:
            if number in clip.known:  # since it was looked for
                continue
            seen += 1
            fault = clip.put(number, frame)
            stored += fault is None
            skipped[fault or Skip.BLACK] += fault is not None
    except PixelError:
        skipped[Skip.UNDECODABLE] += missing - seen
    skipped[Skip.FURTHER_REGIONS] = look.found.facts.further_regions
    return HarvestCount(frames_stored=stored, skipped=dict(+skipped))


class _Blank:
    """All of a frame's record but its pixels."""

    def __init__(
        self,
        instance: Instance,
        words: Words,
        picture: Picture,
        tables: Tables,
        key: PseudonymKey,
    ) -> None:
        self.area = picture.area
        self._facts, self._labels = picture.facts, labels_of(words, tables)
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
        self._frame_time_s = words.frame_time_s if picture.facts.number_of_frames > 1 else None

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
            spacing_mm=self._facts.region_spacing_mm,
            burned_in_annotation=self._may_show_text,
            evidence=self._evidence,
            number_of_frames=self._facts.number_of_frames,
            frame_time_s=self._frame_time_s,
        )


class _Clip:
    """A clip on its way into the store, frame by frame."""

    def __init__(
        self, store: WeakLabelStore, together: Together, blank: _Blank, known: Iterable[Sighting]
    ) -> None:
        self._store, self._together, self._blank = store, together, blank
        #: what an earlier harvest knew, by frame number
        self.known = {one.frame_number: one.frame_id for one in known}
        self._last: tuple[int, str, NDArray[np.uint8]] | None = None

    def put(self, number: int, frame: NDArray[np.uint8]) -> Skip | None:
        """Store a frame unless there is a reason not to, and return that."""
        area = self._blank.area
        pixels = area.cut(frame)
        if np.count_nonzero(pixels > DARK_GREY) < BLACK_SHARE * pixels.size:
            return Skip.BLACK
        new = self._blank.filled(number, pixels)
        like = self._like(number, pixels)
        try:
            if like is not None and not self._together.has_frame(new.frame_id):
                self._together.add_repeat(self._blank.instance, number, like)
                return Skip.NEAR_DUPLICATE
            is_new = self._together.put_frame(new)
        except StoreError:
            return Skip.REFUSED
        self._last = number, new.frame_id, pixels
        return None if is_new else Skip.DUPLICATE

    def _like(self, number: int, pixels: NDArray[np.uint8]) -> str | None:
        """Return the frame that was kept last before this one, if they hardly differ."""
        earlier = max((n for n in self.known if n < number), default=0)
        if earlier and (self._last is None or self._last[0] < earlier):
            frame_id = self.known[earlier]
            self._last = earlier, frame_id, self._store.pixels(frame_id)
        if self._last is None or not hardly_differ(self._last[2], pixels):
            return None
        return self._last[1]

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
from dicom_node.harvest.sampling import sampled
from dicom_node.harvest.tables import Tables
from dicom_node.harvest.words import Words, read_words
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Box, ImageFacts, Instance
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
    #: this very frame is there from an earlier run
    ALREADY_STORED = "already stored"
    #: the store holds other pixels under this SOP Instance UID
    REFUSED = "refused"


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
    if facts.region is None:
        return HarvestCount(skipped={Skip.NO_REGION: len(wanted)})
    blank = _Blank(instance, words, facts, facts.region, tables, key)
    return _store_frames(blank, wanted, sandbox, store)


class _Blank:
    """All of a frame's record but its pixels."""

    def __init__(
        self,
        instance: Instance,
        words: Words,
        facts: ImageFacts,
        region: Box,
        tables: Tables,
        key: PseudonymKey,
    ) -> None:
        self.path = instance.path
        self.region = region
        self._facts, self._labels = facts, labels_of(words, tables)
        # without Patient ID a study is its own patient: better two splits than one for everybody
        patient = words.patient_id or instance.study_instance_uid
        self.instance = key.token("instance", instance.sop_instance_uid)
        self._tokens = {
            "patient": key.token("patient", patient),
            "study": key.token("study", instance.study_instance_uid),
            "series": key.token("series", instance.series_instance_uid),
            "instance": self.instance,
        }
        self._evidence = evidence_of(words, tables, key)
        self._may_show_text = words.may_show_text

    def is_the_one_in(self, store: WeakLabelStore) -> bool:
        """Whether the stored instance of this name has the same picture size and region."""
        size = self._facts.rows, self._facts.columns
        return (store.source_size(self.instance), store.crop_of(self.instance)) == (
            size,
            self.region,
        )

    def filled(self, number: int, pixels: NDArray[np.uint8]) -> NewFrame:
        """Return the record of one frame."""
        return NewFrame(
            pixels=pixels,
            **self._tokens,
            frame_number=number,
            rows=self._facts.rows,
            columns=self._facts.columns,
            crop=self.region,
            probe=self._labels.probe,
            geometry=self._labels.geometry,
            geometry_rule=self._labels.geometry_rule,
            groups=self._labels.groups,
            description=description_of(self._evidence),
            spacing_mm=self._facts.spacing_mm,
            burned_in_annotation=self._may_show_text,
            evidence=self._evidence,
        )


def _store_frames(
    blank: _Blank, wanted: list[int], sandbox: PixelSandbox, store: WeakLabelStore
) -> HarvestCount:
    known = store.frame_numbers(blank.instance)
    if known and not blank.is_the_one_in(store):
        return HarvestCount(skipped={Skip.REFUSED: len(wanted)})
    missing = [number for number in wanted if number not in known]
    skipped = Counter({Skip.ALREADY_STORED: len(wanted) - len(missing)})
    stored = seen = 0
    try:
        for number, frame in sandbox.frames(blank.path, missing) if missing else ():
            seen += 1
            fault = _store_frame(store, blank, number, frame)
            stored += fault is None
            skipped[fault or Skip.BLACK] += fault is not None
    except PixelError:
        skipped[Skip.UNDECODABLE] += len(missing) - seen
    return HarvestCount(frames_stored=stored, skipped=dict(+skipped))


def _store_frame(
    store: WeakLabelStore, blank: _Blank, number: int, frame: NDArray[np.uint8]
) -> Skip | None:
    # a copy: nothing outside the region stays reachable from what is stored
    pixels = frame[blank.region.slices].copy()
    if (pixels > DARK_GREY).mean() < BLACK_SHARE:
        return Skip.BLACK
    is_there = store.has_frame(digest(pixels))
    try:
        store.add_frame(blank.filled(number, pixels))
    except StoreError:
        return Skip.REFUSED
    return Skip.DUPLICATE if is_there else None

"""What readers said of frames, and which of it holds.

A reading is what one object (SEG, SR, or a row of a CSV) says of one frame about one thing: the
quality, a label set, or a class set. What a later object of the same reader says of an image takes
the place of what his earlier ones said of the same labels, in frames that it does not name, too:
they count as taken back. A row of a CSV speaks of its frame alone. Of several readers the one who
spoke last is heard; the others stay beside him.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: What a quality score is about; other readings are about a label set or a class set.
QUALITY: Final = "quality"


class Origin(StrEnum):
    """Where a reading stands."""

    SEG = "SEG"
    SR = "SR"
    CSV = "CSV"


class Observer(StrEnum):
    """How its reader is known."""

    #: by name, of which the store has a pseudonym
    NAMED = "named"
    #: by the program and device that wrote it: nobody is named
    UNNAMED = "unnamed"


class Software(StrEnum):
    """Which program wrote it; free text never enters a store."""

    SLICER = "3D Slicer"
    DCMQI = "dcmqi"
    OHIF = "OHIF"
    HIGHDICOM = "highdicom"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Who said it, with what, and in which object."""

    #: pseudonyms, of the reader and of the SOP Instance or the row
    reader: str
    object: str
    origin: Origin
    software: Software = Software.OTHER
    observer: Observer = Observer.UNNAMED


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one object says of one frame."""

    #: 1-based
    frame_number: int
    #: `QUALITY`, or the name of a label set or a class set
    about: str
    #: a quality score, or the place of a class in its set
    value: int | None = None
    #: uint8, (H, W), of the stored crop; of a label set
    mask: NDArray[np.uint8] | None = None
    #: values of the mask that its reader looked for; the others are not known to be absent
    labels: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class StoredReading:
    """A reading with its place among those of its instance."""

    reading: Reading
    provenance: Provenance
    #: counts the objects that speak of the instance, the oldest first; 0 where it is not known
    place: int


@dataclass(kw_only=True)
class Word:
    """What a reader says of a frame about one thing, by all of his objects together."""

    about: str
    value: int | None = None
    mask: NDArray[np.uint8] | None = None
    #: which object each label is of, by (place, pseudonym)
    of: dict[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def last(self) -> tuple[int, str]:
        """The last object that it is of."""
        return max(self.of.values())

    def forget(self, labels: Iterable[int]) -> None:
        """Take back what was said of some labels."""
        gone = self.of.keys() & set(labels)
        for label in gone:
            del self.of[label]
        if self.mask is not None and gone:
            self.mask = np.where(np.isin(self.mask, sorted(gone)), np.uint8(0), self.mask)

    def hear(self, one: StoredReading) -> None:
        """Take in what a later object says."""
        labels = _labels(one.reading)
        self.forget(labels)
        self.of |= dict.fromkeys(labels, (one.place, one.provenance.object))
        self.value = one.reading.value
        drawn = one.reading.mask
        if drawn is not None:
            under = np.zeros_like(drawn) if self.mask is None else self.mask
            self.mask = np.where(drawn > 0, drawn, under)


def heard(readings: Sequence[StoredReading]) -> dict[int, list[Word]]:
    """Return what holds of the frames of one instance, by frame number.

    Of a frame there may be several words about the same: one for each reader. The one that was
    spoken last stands last.
    """
    words: dict[tuple[str, str], dict[int, Word]] = {}
    for said in _objects(readings):
        for (reader, about), of_frames in _by_reader(said).items():
            so_far = words.setdefault((reader, about), {})
            _take_back(so_far, of_frames)
            for number, one in of_frames.items():
                so_far.setdefault(number, Word(about=about)).hear(one)
    found: dict[int, list[Word]] = {}
    for of_frames_now in words.values():
        for number, word in of_frames_now.items():
            found.setdefault(number, []).append(word)
    for spoken in found.values():
        spoken.sort(key=lambda word: (word.last, word.about))
    return found


def living(words: Mapping[int, Sequence[Word]]) -> frozenset[str]:
    """Return the objects of which something holds."""
    return frozenset(name for said in words.values() for w in said for _, name in w.of.values())


def _objects(readings: Sequence[StoredReading]) -> Iterator[list[StoredReading]]:
    """Yield the readings of each object, the oldest object first."""
    ordered = sorted(readings, key=_order)
    for _, of_object in groupby(ordered, key=_order):
        yield list(of_object)


def _order(one: StoredReading) -> tuple[int, str]:
    return one.place, one.provenance.object


def _by_reader(
    said: Sequence[StoredReading],
) -> dict[tuple[str, str], dict[int, StoredReading]]:
    found: dict[tuple[str, str], dict[int, StoredReading]] = {}
    for one in said:
        key = one.provenance.reader, one.reading.about
        found.setdefault(key, {})[one.reading.frame_number] = one
    return found


def _take_back(so_far: dict[int, Word], of_frames: Mapping[int, StoredReading]) -> None:
    """Forget what the same reader said before of frames that his object does not name."""
    said = list(of_frames.values())
    if said[0].provenance.origin is Origin.CSV:
        return
    labels = {label for one in said for label in _labels(one.reading)}
    for number in so_far.keys() - of_frames.keys():
        so_far[number].forget(labels)
        if not so_far[number].of:
            del so_far[number]


def _labels(reading: Reading) -> frozenset[int]:
    # a score or a class is one statement
    return frozenset({0}) if reading.mask is None else reading.labels

"""Quality scores and classes from structured reports: the measurement groups of TID 1500.

A score is of the frames that its group names; of all frames of an image that it names as a whole;
and of the only image of the report where a group names none.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.harvest.reader_codes import Meaning, ReaderCodes
from dicom_node.harvest.reader_objects import concept, content_items, meaning_of
from dicom_node.harvest.segmentations import SeenCode
from dicom_node.header import text
from dicom_node.sop_classes import ULTRASOUND_IMAGES
from dicom_node.store import QUALITY
from dicom_node.store.label_sets import class_sets
from dicom_node.store.records import BEST_QUALITY

MEASUREMENT_GROUP: Final = "DCM:125007"
#: A number that is nearer to a whole one was whole before it was written.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a report says of an image."""

    #: SOP Instance UID
    image: str
    #: 1-based; empty where the image as a whole is meant
    frames: tuple[int, ...]
    #: `QUALITY` or a class set
    about: str
    value: int


@dataclass(kw_only=True)
class Scores:
    """What a report says."""

    scores: list[Score] = field(default_factory=list)
    unmapped: list[SeenCode] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


def scores_of(header: Dataset, codes: ReaderCodes) -> Scores:
    """Read the scores of a report.

    Raises
    ------
    UnreadableError
        When its tree is no report's.
    """
    found = Scores()
    evidence = evidence_of(header)
    only = ((evidence[0], ()),) if len(evidence) == 1 else ()
    for group in content_items(header):
        if concept(group) != MEASUREMENT_GROUP:
            continue
        try:
            images = tuple(_images(group)) or only
        except (ValueError, TypeError):
            # not of the image as a whole: somebody meant one frame
            found.faults["a score of a frame whose number is none"] += 1
            continue
        for item in group.get("ContentSequence") or ():
            meaning, value = _answer(item, codes, found)
            if meaning is None:
                continue
            if value is None:
                found.faults["a score that is no whole number from 0 to 4"] += 1
            elif not images:
                found.faults["a score that names no image"] += 1
            found.scores += [
                Score(image=image, frames=frames, about=meaning.about, value=value)
                for image, frames in images
                if value is not None
            ]
    return found


def evidence_of(header: Dataset) -> list[str]:
    """Return the ultrasound images that a report is about, each once."""
    return list(
        dict.fromkeys(
            str(item.get("ReferencedSOPInstanceUID"))
            for study in header.get("CurrentRequestedProcedureEvidenceSequence") or ()
            for series in study.get("ReferencedSeriesSequence") or ()
            for item in series.get("ReferencedSOPSequence") or ()
            if item.get("ReferencedSOPClassUID") in ULTRASOUND_IMAGES
        )
    )


def _answer(item: Dataset, codes: ReaderCodes, found: Scores) -> tuple[Meaning | None, int | None]:
    """Return what an item scores and its value, (None, None) where it is about something else."""
    kind, question = text(item, "ValueType"), concept(item)
    if kind == "NUM":
        meaning = codes.meaning(question)
        _note(item, "ConceptNameCodeSequence", meaning, found)
        is_score = meaning is not None and meaning.about == QUALITY and meaning.value is None
        return (meaning, _number(item, meaning.scale)) if meaning and is_score else (None, None)
    if kind != "CODE":
        return None, None
    answer = codes.meaning(concept(item, "ConceptCodeSequence"))
    if answer is None or answer.value is None:
        return None, None
    # "good" may be said of anything: a quality is asked for by its name
    asked = codes.meaning(question)
    if answer.about == QUALITY and (asked is None or asked.about != QUALITY):
        return None, None
    is_ours = answer.about == QUALITY or answer.about in class_sets()
    return (answer, answer.value) if is_ours else (None, None)


def _note(item: Dataset, keyword: str, meaning: Meaning | None, found: Scores) -> None:
    if meaning is None:
        seen = SeenCode(code=concept(item, keyword), label="", meaning=meaning_of(item, keyword))
        found.unmapped.append(seen)


def _number(item: Dataset, scale: float) -> int | None:
    measured = item.get("MeasuredValueSequence")
    try:
        value = float(text(measured[0], "NumericValue")) / scale if measured else -1.0
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    if scale == 1 and abs(value - round(value)) > _ROUNDING:
        return None
    return round(value) if 0 <= value <= BEST_QUALITY else None


def _images(group: Dataset) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the images and frames that a group names, each once."""
    found: dict[tuple[str, tuple[int, ...]], None] = {}
    for item in content_items(group):
        if text(item, "ValueType") == "IMAGE":
            for reference in item.get("ReferencedSOPSequence") or ():
                uid = str(reference.get("ReferencedSOPInstanceUID"))
                found[uid, _frames(reference)] = None
    yield from found


def _frames(reference: Dataset) -> tuple[int, ...]:
    value = reference.get("ReferencedFrameNumber")
    if value is None or value == "":
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(int(one) for one in value)
    return (int(value),)

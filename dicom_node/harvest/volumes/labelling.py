"""From the headers of a series to its labels; what they do not say stays unknown."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import numpy as np

from dicom_node.harvest.volumes import contrast
from dicom_node.harvest.volumes.rules import (
    NamedRule,
    Phrase,
    Range,
    RegionRule,
    SequenceRule,
    WordRule,
    load_rules,
    stands_in,
    words_in,
)
from dicom_node.harvest.volumes.slices import Slice
from dicom_node.store.volumes import REGIONS, SeriesLabels

#: A normal whose largest part is smaller lies between two planes (more than 37 degrees off).
LEAST_PART: Final = 0.8
#: Planes by the axis of the normal: x, y, z (PS3.3 C.7.6.2.1.1).
_PLANE_OF_AXIS: Final = ("SAG", "COR", "AX")
_SILENT: Final = "none"
_DIFFER: Final = "slices differ"
_SHORT: Final = " of a short series"
_LONG: Final = " of a long series"
_SOURCES: Final = ("body part", "series words", "study words")
#: Sources that are held against each other, by their place in `_SOURCES`.
_PAIRS: Final = (
    ((0, 1), "body part contradicts words"),
    ((0, 2), "body part contradicts study"),
    ((1, 2), "words contradict study"),
)
#: Regions of which a face can be rebuilt.
FACE: Final = frozenset({"Head", "Brain"})
#: What rules are called that stand in no table.
_NAMES: Final = frozenset(
    {
        *(_SILENT, _DIFFER, "modality", "times fit no row", "quadruped", "orientation", "oblique"),
        *(*contrast.NAMES, *(name for _, name in _PAIRS)),
        *(f"{source}{end}" for source in _SOURCES for end in ("", _SHORT, _LONG)),
    }
)
T = TypeVar("T")
Known = tuple[str | None, str]
#: shown, known, and the rule
Regions = tuple[frozenset[str], frozenset[str], str]


def rule_names() -> frozenset[str]:
    """Return what the columns of rules may hold."""
    return _NAMES | {rule.name for rule in load_rules().named}


def labels_of(slices: Sequence[Slice], *, spacing_mm: float, extent_mm: float) -> SeriesLabels:
    """Return the labels of a series.

    Parameters
    ----------
    slices : sequence of Slice
        One series. Each header that differs is labelled by itself; where they disagree nothing is
        known.
    spacing_mm : float
        From the centre of one slice to the next, by position.
    extent_mm : float
        From the first slice to the last.
    """
    told = list({tuple(one.said.values()): one for one in slices}.values())
    sequence, sequence_rule = _agreed([sequence_of(one) for one in told])
    plane, plane_rule = _agreed([plane_of(one) for one in told])
    is_given, contrast_rule = _agreed([contrast.contrast_of(one) for one in told])
    # of a slab that is thinner than the part only a piece is shown
    length_mm = extent_mm if plane == "AX" else None
    shown, known, regions_rule = _common([regions_of(one, length_mm) for one in told])
    return SeriesLabels(
        sequence=sequence,
        sequence_rule=sequence_rule,
        plane=plane,
        plane_rule=plane_rule,
        contrast=is_given,
        contrast_rule=contrast_rule,
        regions=shown,
        regions_known=known,
        regions_rule=regions_rule,
        slice_spacing_mm=spacing_mm,
    )


def _agreed(found: Sequence[tuple[T | None, str]]) -> tuple[T | None, str]:
    return found[0] if len({label for label, _ in found}) == 1 else (None, _DIFFER)


def _common(found: Sequence[Regions]) -> Regions:
    """Return what all show, and what all deny."""
    if len({(shown, known) for shown, known, _ in found}) == 1:
        return found[0]
    shown = frozenset.intersection(*(shown for shown, _, _ in found))
    denied = frozenset.intersection(*(known - shown for shown, known, _ in found))
    return shown, shown | denied, _DIFFER


def sequence_of(told: Slice) -> Known:
    """Return modality and pulse sequence.

    Where Scanning Sequence, Echo and Repetition Time are there, they alone make one, and words can
    only deny it; words make one where any of the three is absent.
    """
    if told.modality == "CT":
        return "CT", "modality"
    echo_ms, repetition_ms = told.number("EchoTime"), told.number("RepetitionTime")
    scans = frozenset(told.said["ScanningSequence"].upper().split("\\"))
    words = frozenset(
        words_in(" ".join((told.said["SeriesDescription"], told.said["ProtocolName"])))
    )
    if echo_ms is not None and repetition_ms is not None and scans != {""}:
        rules = (rule for rule in load_rules().sequences if not rule.none & words)
        return _first((one for one in rules if _has_times(one, told, scans)), "times fit no row")
    if "SE" in scans and not scans & {"GR", "EP"}:
        words |= {"SE"}
    return _first((r for r in load_rules().sequence_words if _has_words(r, words)), _SILENT)


def plane_of(told: Slice) -> Known:
    """Return the plane nearest to a slice, None for an oblique one and for an animal's."""
    if told.said["AnatomicalOrientationType"].upper() == "QUADRUPED":
        return None, "quadruped"
    parts = np.abs(told.normal)
    axis = int(np.argmax(parts))
    return (_PLANE_OF_AXIS[axis], "orientation") if parts[axis] >= LEAST_PART else (None, "oblique")


def regions_of(told: Slice, length_mm: float | None) -> Regions:
    """Return the regions that are shown, those of which it is known, and the rule that spoke.

    A region is denied only where no source may show it; a part that no row knows denies no head.

    Parameters
    ----------
    told : Slice
        Body Part Examined speaks, else the words of the series, else those of the study.
    length_mm : float, optional
        Of an axial series.
    """
    series = " ".join((told.said["SeriesDescription"], told.said["ProtocolName"]))
    texts = (told.said["BodyPartExamined"], series, told.said["StudyDescription"])
    found = tuple(_rows_of(words_in(text)) for text in texts)
    against = next((name for at, name in _PAIRS if _contradict(*(found[one] for one in at))), None)
    if against is not None:
        return frozenset(), frozenset(), against
    sources = zip(found, _SOURCES, strict=True)
    rows, rule = next(((said, name) for said, name in sources if said), ([], _SILENT))
    if not rows:
        return frozenset(), frozenset(), rule
    end = _odd_length(rows, length_mm)
    shown = frozenset() if end == _SHORT else _shown(rows)
    maybe = frozenset(REGIONS) if end == _LONG else _union(row for rows in found for row in rows)
    if texts[0] and not found[0]:
        maybe |= FACE
    return shown, frozenset(REGIONS) - (maybe - shown), f"{rule}{end}"


def _odd_length(rows: Sequence[RegionRule], length_mm: float | None) -> str:
    """Return what the name of a rule ends with where a series is too short or long for its rows."""
    if length_mm is None:
        return ""
    if length_mm < max(row.least_mm for row in rows):
        return _SHORT
    most_mm = min(load_rules().headless_mm, sum(row.most_mm for row in rows))
    return _LONG if length_mm > most_mm else ""


def _contradict(one: Sequence[RegionRule], other: Sequence[RegionRule]) -> bool:
    """Whether what one shows is nothing that the other may show."""
    shown = _shown(one), _shown(other)
    return all(shown) and not (shown[0] & _union(other) and shown[1] & _union(one))


def _shown(rows: Iterable[RegionRule]) -> frozenset[str]:
    return frozenset().union(*(row.shows for row in rows))


def _union(rows: Iterable[RegionRule]) -> frozenset[str]:
    return frozenset().union(*(row.shows | row.may for row in rows))


def _rows_of(words: Phrase) -> list[RegionRule]:
    found = {
        row: {one for one in row.says if stands_in(one, words)} for row in load_rules().regions
    }
    every = frozenset().union(*found.values())
    # SKULL of SKULL BASE is no word of its own
    parts = {one for one in every for longer in every - {one} if stands_in(one, longer)}
    return [row for row, said in found.items() if said - parts]


def _first(rules: Iterable[NamedRule], otherwise: str) -> Known:
    return next(((rule.is_, rule.name) for rule in rules), (None, otherwise))


def _has_times(rule: SequenceRule, told: Slice, scans: frozenset[str]) -> bool:
    is_of_kind = "IR" in scans if rule.scan == "IR" else _is_spin_echo(told, scans)
    times: dict[str, Range | None] = {
        "EchoTime": rule.echo_ms,
        "RepetitionTime": rule.repetition_ms,
        "InversionTime": rule.inversion_ms,
    }
    return (
        is_of_kind
        and not scans & {"GR", "EP"}
        and all(_lies_in(told.number(name), wanted) for name, wanted in times.items())
    )


def _is_spin_echo(told: Slice, scans: frozenset[str]) -> bool:
    # an inversion is one though Scanning Sequence forgets it; some write 0 where there is none
    return scans <= {"SE", "RM"} and "SE" in scans and not told.number("InversionTime")


def _lies_in(value: float | None, wanted: Range | None) -> bool:
    return wanted is None or (value is not None and wanted[0] <= value < wanted[1])


def _has_words(rule: WordRule, words: frozenset[str]) -> bool:
    return rule.all <= words and (not rule.any or bool(rule.any & words)) and not rule.none & words

"""From the headers of a series to its labels; what they do not say stays unknown."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from dicom_node.harvest.volumes.rules import (
    NamedRule,
    Range,
    RegionRule,
    SequenceRule,
    WordRule,
    load_rules,
    words_in,
)
from dicom_node.harvest.volumes.slices import Slice
from dicom_node.store.volumes import REGIONS, SeriesLabels

#: A normal whose largest part is smaller lies between two planes (more than 37 degrees off).
LEAST_PART: Final = 0.8
#: Planes by the axis of the normal: x, y, z (PS3.3 C.7.6.2.1.1).
_PLANE_OF_AXIS: Final = ("SAG", "COR", "AX")
_SILENT: Final = "none"
_SHORT: Final = " of a short series"
_SOURCES: Final = ("body part", "series words", "study words")
#: What rules are called that stand in no table.
_NAMES: Final = frozenset(
    {
        *(_SILENT, "modality", "times fit no row", "quadruped", "orientation", "oblique"),
        *("agent", "words", "words contradict", "body part contradicts words"),
        *(f"{source}{end}" for source in _SOURCES for end in ("", _SHORT)),
    }
)
Known = tuple[str | None, str]


def rule_names() -> frozenset[str]:
    """Return what the columns of rules may hold."""
    return _NAMES | {rule.name for rule in load_rules().named}


def labels_of(slices: Sequence[Slice], *, spacing_mm: float, extent_mm: float) -> SeriesLabels:
    """Return the labels of a series.

    Parameters
    ----------
    slices : sequence of Slice
        One series, in order; what is said of it is taken from the one in the middle.
    spacing_mm : float
        From the centre of one slice to the next, by position.
    extent_mm : float
        From the first slice to the last.
    """
    told = slices[len(slices) // 2]
    sequence, sequence_rule = sequence_of(told)
    plane, plane_rule = plane_of(told)
    contrast, contrast_rule = contrast_of(told)
    # of a slab that is thinner than the part only a piece is shown
    length_mm = extent_mm if plane == "AX" else None
    shown, known, regions_rule = regions_of(told, length_mm)
    return SeriesLabels(
        sequence=sequence,
        sequence_rule=sequence_rule,
        plane=plane,
        plane_rule=plane_rule,
        contrast=contrast,
        contrast_rule=contrast_rule,
        regions=shown,
        regions_known=known,
        regions_rule=regions_rule,
        slice_spacing_mm=spacing_mm,
    )


def sequence_of(told: Slice) -> Known:
    """Return modality and pulse sequence; words speak only where times are absent."""
    if told.modality == "CT":
        return "CT", "modality"
    echo_ms, repetition_ms = told.number("EchoTime"), told.number("RepetitionTime")
    scans = frozenset(told.said["ScanningSequence"].upper().split("\\"))
    if echo_ms is not None and repetition_ms is not None and scans != {""}:
        fitting = (rule for rule in load_rules().sequences if _has_times(rule, told, scans))
        return _first(fitting, otherwise="times fit no row")
    words = frozenset(
        words_in(" ".join((told.said["SeriesDescription"], told.said["ProtocolName"])))
    )
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


def contrast_of(told: Slice) -> tuple[bool | None, str]:
    """Return whether a contrast agent was given; an absent agent denies nothing."""
    rules = load_rules().contrast
    agent = told.said["ContrastBolusAgent"].upper().strip()
    if agent:
        return agent not in rules.no_agent, "agent"
    said: set[bool] = set()
    for keyword in ("SeriesDescription", "ProtocolName"):
        words = words_in(told.said[keyword])
        for is_given, phrases in ((True, rules.with_), (False, rules.without)):
            if any(_stands_in(phrase, words) for phrase in phrases):
                said.add(is_given)
    if len(said) == 1:
        return said.pop(), "words"
    return None, "words contradict" if said else _SILENT


def regions_of(told: Slice, length_mm: float | None) -> tuple[frozenset[str], frozenset[str], str]:
    """Return the regions that are shown, those of which it is known, and the rule that spoke.

    Parameters
    ----------
    told : Slice
        Body Part Examined speaks, else the words of the series, else those of the study.
    length_mm : float, optional
        Of an axial series.
    """
    part = _rows_of(words_in(told.said["BodyPartExamined"]))
    series = " ".join((told.said["SeriesDescription"], told.said["ProtocolName"]))
    words = _rows_of(words_in(series))
    if part and words and not _union(words) & _union(part):
        return frozenset(), frozenset(), "body part contradicts words"
    study = _rows_of(words_in(told.said["StudyDescription"]))
    sources = zip((part, words, study), _SOURCES, strict=True)
    rows, rule = next(((found, name) for found, name in sources if found), ([], _SILENT))
    if not rows:
        return frozenset(), frozenset(), rule
    is_short = length_mm is not None and length_mm < max(row.least_mm for row in rows)
    shown = frozenset() if is_short else frozenset().union(*(row.shows for row in rows))
    maybe = _union(rows) - shown
    return shown, frozenset(REGIONS) - maybe, f"{rule}{_SHORT}" if is_short else rule


def _union(rows: Iterable[RegionRule]) -> frozenset[str]:
    return frozenset().union(*(row.shows | row.may for row in rows))


def _rows_of(words: Iterable[str]) -> list[RegionRule]:
    said = frozenset(words)
    return [row for row in load_rules().regions if row.words & said]


def _first(rules: Iterable[NamedRule], otherwise: str) -> Known:
    return next(((rule.is_, rule.name) for rule in rules), (None, otherwise))


def _has_times(rule: SequenceRule, told: Slice, scans: frozenset[str]) -> bool:
    # an inversion recovery is one, whatever it reads out with; a spin echo is nothing else
    is_of_kind = "IR" in scans if rule.scan == "IR" else scans <= {"SE", "RM"} and "SE" in scans
    times: dict[str, Range | None] = {
        "EchoTime": rule.echo_ms,
        "RepetitionTime": rule.repetition_ms,
        "InversionTime": rule.inversion_ms,
    }
    return (
        is_of_kind
        and "EP" not in scans
        and all(_lies_in(told.number(name), wanted) for name, wanted in times.items())
    )


def _lies_in(value: float | None, wanted: Range | None) -> bool:
    return wanted is None or (value is not None and wanted[0] <= value < wanted[1])


def _has_words(rule: WordRule, words: frozenset[str]) -> bool:
    return rule.all <= words and (not rule.any or bool(rule.any & words)) and not rule.none & words


def _stands_in(phrase: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))

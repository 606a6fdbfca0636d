"""Put the slices of a series in order by their positions, or say why they are no volume.

====================  ==============================================================
found                 what is done
====================  ==============================================================
localisers            left out; they are named so in Image Type
fewer than 8 slices   refused
orientations, pixel   refused as mixed: nobody knows which of them the label is of
spacings that differ
scanning sequences,   refused as mixed, too: times by more than a twentieth, which is more than
times that differ     vendors round them from slice to slice, or a time that some slices lack
sizes that differ     refused
the same place twice  one is used when both show the same, refused as mixed otherwise
a gap                 refused, and so is a spacing that is uneven, or is longer than a metre
gantry tilt           straightened by shifting slices; refused beyond 45 degrees
====================  ==============================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.harvest.counts import Skip
from dicom_node.harvest.volumes.slices import Slice
from dicom_node.store.volumes import LARGEST_STEP_MM

FEWEST_SLICES: Final = 8
#: Directions that differ by more are two (cosine of 0.8 degrees); spacings by more, relative.
_SAME_DIRECTION: Final = 0.9999
_SAME_SPACING: Final = 0.001
#: Echo, Repetition or Inversion Times that differ by more are of two sequences, relative.
_SAME_TIME: Final = 0.05
_TIMES: Final = ("EchoTime", "RepetitionTime", "InversionTime")
#: A step may differ from the usual one by this part of it, or by so many mm of rounding.
_EVEN: Final = 0.1
_ROUNDING_MM: Final = 0.05
#: A step that is so many times the usual one lacks a slice.
_GAP: Final = 1.5
#: Nearer slices lie in the same place, mm.
_SAME_PLACE_MM: Final = 0.01
#: Shift of a slice for each mm along the normal: 45 degrees. No gantry tilts by more than 30.
_STEEPEST: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Slices in order, evenly spaced along one direction."""

    slices: tuple[Slice, ...]
    #: slices in the place of one of `slices`, by its index; used only to be compared with it
    doubles: dict[int, tuple[Slice, ...]] = field(default_factory=dict)
    spacing_mm: float
    #: mm by which each slice is shifted along rows and along columns, (n, 2)
    shifts_mm: NDArray[np.float64]

    @property
    def all(self) -> tuple[Slice, ...]:
        """Slices and doubles."""
        return (*self.slices, *(one for many in self.doubles.values() for one in many))

    @property
    def extent_mm(self) -> float:
        """From the first slice to the last."""
        return self.spacing_mm * (len(self.slices) - 1)


def assembled(slices: Sequence[Slice]) -> Stack | Skip:
    """Return the slices of one series in order along their normal, or why they are no volume."""
    if len(slices) < FEWEST_SLICES:
        return Skip.TOO_FEW_SLICES
    fault = _misfit(slices)
    if fault is not None:
        return fault
    normal = ascending(slices[0].normal)
    ordered = sorted(slices, key=lambda one: float(one.position @ normal))
    places: list[list[Slice]] = []
    for one in ordered:
        is_new = not places or (one.position - places[-1][0].position) @ normal > _SAME_PLACE_MM
        places.append([one]) if is_new else places[-1].append(one)
    kept = tuple(place[0] for place in places)
    steps = np.array([(b.position - a.position) @ normal for a, b in pairwise(kept)])
    spacing_mm = float(np.median(steps)) if len(steps) else 0.0
    shifts_mm = _shifts_mm(kept)
    fault = _fault(kept, steps, spacing_mm, shifts_mm)
    if fault is not None:
        return fault
    return Stack(
        slices=kept,
        doubles={at: tuple(place[1:]) for at, place in enumerate(places) if place[1:]},
        spacing_mm=spacing_mm,
        shifts_mm=shifts_mm,
    )


def ascending(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a direction, turned so that its largest part leads to the left, back or head."""
    largest = direction[int(np.argmax(np.abs(direction)))]
    return direction if largest > 0 else -direction


def _misfit(slices: Sequence[Slice]) -> Skip | None:
    """Return why slices are not of one picture format."""
    first = slices[0]
    for one in slices:
        if (one.rows, one.columns) != (first.rows, first.columns):
            return Skip.SIZES_DIFFER
        same = (
            one.along_row @ first.along_row > _SAME_DIRECTION
            and one.along_column @ first.along_column > _SAME_DIRECTION
            and np.allclose(one.spacing_mm, first.spacing_mm, rtol=_SAME_SPACING)
            and (one.modality, one.patient_id) == (first.modality, first.patient_id)
        )
        if not same:
            return Skip.MIXED
    return None if _is_one_sequence(slices) else Skip.MIXED


def _is_one_sequence(slices: Sequence[Slice]) -> bool:
    scans = {frozenset(one.said["ScanningSequence"].upper().split("\\")) for one in slices}
    times = ([one.number(keyword) for one in slices] for keyword in _TIMES)
    return len(scans) == 1 and all(map(_is_one_time, times))


def _is_one_time(times: Sequence[float | None]) -> bool:
    known = [time for time in times if time is not None]
    if not known:
        return True
    return len(known) == len(times) and max(known) - min(known) <= _SAME_TIME * max(known)


def _shifts_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    first = slices[0]
    return np.array(
        [
            [
                (one.position - first.position) @ first.along_row,
                (one.position - first.position) @ first.along_column,
            ]
            for one in slices
        ]
    )


def _fault(
    slices: Sequence[Slice],
    steps: NDArray[np.float64],
    spacing_mm: float,
    shifts_mm: NDArray[np.float64],
) -> Skip | None:
    if len(slices) < FEWEST_SLICES:
        return Skip.TOO_FEW_SLICES
    if spacing_mm > LARGEST_STEP_MM:
        return Skip.NO_GEOMETRY
    if (steps > _GAP * spacing_mm).any():
        return Skip.MISSING_SLICES
    if (np.abs(steps - spacing_mm) > max(_EVEN * spacing_mm, _ROUNDING_MM)).any():
        return Skip.UNEVEN
    tilts = np.abs(np.diff(shifts_mm, axis=0)) / spacing_mm
    return Skip.TILTED if (tilts > _STEEPEST).any() else None

"""What is drawn over the picture for readers without SEG or SR: outlines, and words.

Presentation state and Secondary Capture say the same of the same frames; here is what they say.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from dicom_node.forms import DEFAULT_FORMS
from dicom_node.records import Analysis, Edition, ResultKind, Segment, Segmentation
from dicom_node.results.report import report_uid
from dicom_node.results.uids import derived_uid

WARNING: Final = "AI result, not verified, not for diagnosis"
#: RGB of the segments in their order; they differ for the colour-blind, too, and from tissue.
COLOURS: Final = (
    (0, 255, 255),
    (255, 200, 0),
    (255, 90, 255),
    (90, 255, 90),
    (255, 130, 60),
    (140, 170, 255),
)
WHITE: Final = (255, 255, 255)
#: Of one segment in one frame; of more (specks) the longest are drawn.
MOST_OUTLINES: Final = 200
#: GraphicData (0070,0022) is FL, of which Explicit VR holds 16383 values.
MOST_POINTS: Final = 8000

#: Points (column, row) of shape (P, 2); (0, 0) is the outer corner of the first pixel.
Outline = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One segment of one model, in its colour."""

    segmentation: Segmentation
    segment: Segment
    colour: tuple[int, int, int]

    def mask(self, frame: int) -> NDArray[np.bool_] | None:
        """Return where the segment is in a frame, None where it is not."""
        if frame not in self.segmentation.frames:
            return None
        plane = self.segmentation.label_map[self.segmentation.frames.index(frame)]
        found: NDArray[np.bool_] = plane == self.segment.value
        return found if found.any() else None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of words; a segment's stands in its colour."""

    text: str
    colour: tuple[int, int, int] = WHITE


def overlay_uid(kind: ResultKind, analysis: Analysis, edition: Edition) -> str:
    """Return the SOP Instance UID of an overlay: it sums up what the report does."""
    return derived_uid(kind.value, report_uid(analysis, edition, DEFAULT_FORMS.reports[0]))


def overlay_series_uid(kind: ResultKind, analysis: Analysis) -> str:
    """Return the series of every overlay of that kind on an image."""
    return derived_uid("series", kind.value, analysis.instance.sop_instance_uid)


def layers_of(analysis: Analysis) -> list[Layer]:
    """Return the segments of every model that found something."""
    pairs = [
        (segmentation, segment)
        for segmentation in analysis.segmentations
        if not segmentation.is_empty
        for segment in segmentation.segments
    ]
    return [
        Layer(segmentation=segmentation, segment=segment, colour=COLOURS[n % len(COLOURS)])
        for n, (segmentation, segment) in enumerate(pairs)
    ]


def frames_of_models(analysis: Analysis) -> list[int]:
    """Return the frames that a model spoke of; the first where every model failed."""
    frames = {frame for said in analysis.segmentations for frame in said.frames}
    frames |= {score.frame for said in analysis.qualities for score in said.scores}
    return sorted(frames) or [1]


def lines_of(analysis: Analysis, edition: Edition, frame: int) -> list[Line]:
    """Return the words on one frame."""
    said = [Line(text=WARNING)]
    if edition.version > 1:
        said.append(Line(text=f"Version {edition.version}, replaces the one before"))
    if analysis.facts.number_of_frames > 1:
        said.append(Line(text=f"Frame {frame} of {analysis.facts.number_of_frames}"))
    said += _scores(analysis, frame)
    said += _segments(analysis, frame)
    for failure in analysis.failures:
        model = f"{failure.algorithm.name} {failure.algorithm.version}"
        said.append(Line(text=f"{model}: {failure.task.value} failed: {failure.reason}"))
    return said


def outlines(mask: NDArray[np.bool_]) -> list[Outline]:
    """Return the edges of a mask (R, C), each closed, holes too.

    A pixel's centre lies within the edges if and only if the pixel is in the mask.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        return []
    left, top = int(columns[0]), int(rows[0])  # a frame is large, and the segment often small
    inner = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    padded = np.pad(inner, 1).astype(np.float32)  # so that edges close at the border
    # contourpy counts from the centre of the first pixel, which padding moved by one
    lines = contour_generator(z=padded, line_type=LineType.Separate).lines(0.5)
    origin = np.array([left, top]) - 0.5
    found = [_straightened(np.asarray(line) + origin) for line in lines]
    found.sort(key=len, reverse=True)
    parts = (part for line in found[:MOST_OUTLINES] for part in _parts(line))
    return [np.clip(part, 0, mask.shape[::-1]).astype(np.float32) for part in parts]


def _straightened(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out the points between two others on one straight line."""
    before, after = line[1:-1] - line[:-2], line[2:] - line[1:-1]
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept: NDArray[np.float64] = line[np.concatenate([[True], turns, [True]])]
    return kept


def _parts(line: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(line) - 1, MOST_POINTS - 1):
        yield line[start : start + MOST_POINTS]


def _scores(analysis: Analysis, frame: int) -> list[Line]:
    return [
        Line(
            text=f"View quality {score.score} of 4, probability {score.probability:.2f} "
            f"({quality.algorithm.name} {quality.algorithm.version})"
        )
        for quality in analysis.qualities
        for score in quality.scores
        if score.frame == frame
    ]


def _segments(analysis: Analysis, frame: int) -> list[Line]:
    lines, layers = [], layers_of(analysis)
    for segmentation in analysis.segmentations:
        if frame not in segmentation.frames:
            continue
        model = f"{segmentation.algorithm.name} {segmentation.algorithm.version}"
        own: Sequence[Layer] = [one for one in layers if one.segmentation is segmentation]
        here = [one for one in own if one.mask(frame) is not None]
        lines += [
            Line(text=f"{one.segment.type.meaning} ({model})", colour=one.colour) for one in here
        ]
        if not here:
            lines.append(Line(text=f"{model}: nothing found"))
    return lines

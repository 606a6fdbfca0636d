from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dicom_node.records import Edition, ResultKind
from dicom_node.results.overlay import (
    MOST_OUTLINES,
    MOST_POINTS,
    WARNING,
    layers_of,
    lines_of,
    outlines,
    overlay_uid,
)
from tests.support.analyses import CINE, STILL, drawn_analysis_of, emptied, pydicom_file

FIRST = Edition()


def inside(lines: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Return which pixels have their centre within the outlines (even-odd rule)."""
    found = np.zeros((rows, columns), bool)
    down, across = np.mgrid[:rows, :columns] + 0.5
    for line in lines:
        for (x0, y0), (x1, y1) in pairwise(line):
            between = (y0 <= down) != (y1 <= down)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = x0 + (down - y0) * (x1 - x0) / (y1 - y0)
            found ^= between & (across < at)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_outlines_hold_the_pixels_of_the_mask_and_no_other(seed: int) -> None:
    blocks = np.random.default_rng(seed).random((6, 8)) < 0.5
    mask = blocks.repeat(5, axis=0).repeat(4, axis=1)
    mask[12:14, 9] = True  # a speck two pixels high
    assert np.array_equal(inside(outlines(mask), *mask.shape), mask)


def test_an_outline_is_closed_and_stays_on_the_picture() -> None:
    (line,) = outlines(np.ones((20, 30), bool))
    assert np.array_equal(line[0], line[-1])
    assert line.min() == 0
    assert line.max(axis=0).tolist() == [30, 20]
    assert len(line) <= 9, "points on a straight line are left out"


def test_a_long_outline_comes_in_pieces_that_meet() -> None:
    comb = np.zeros((60, 12000), bool)
    comb[:, ::2] = True
    comb[30:] = True
    pieces = outlines(comb)
    assert len(pieces) > 1
    assert all(len(piece) <= MOST_POINTS for piece in pieces)
    for piece, following in pairwise(pieces):
        assert np.array_equal(piece[-1], following[0])


def test_of_a_thousand_specks_only_the_longest_outlines_are_drawn() -> None:
    specks = np.zeros((100, 100), bool)
    specks[::3, ::3] = True
    specks[40:60, 40:60] = True
    found = outlines(specks)
    assert len(found) == MOST_OUTLINES
    assert np.ptp(found[0]) >= 19


def test_the_words_say_score_findings_failures_and_that_nobody_verified_them() -> None:
    analysis = drawn_analysis_of(pydicom_file(CINE), every_nth=10)
    said = [line.text for line in lines_of(analysis, FIRST, 11)]
    assert said == [
        WARNING,
        "Frame 11 of 30",
        "View quality 1 of 4, probability 0.99 (view-quality 1.0.0)",
        "Liver (liver-kidney 1.0.0)",
        "Kidney (liver-kidney 1.0.0)",
        "broken-model 1.0.0: segmentation failed: the pixels cannot be decoded",
    ]
    colours = [line.colour for line in lines_of(analysis, FIRST, 11)]
    assert colours[3:5] == [layer.colour for layer in layers_of(analysis)]


def test_a_frame_without_findings_says_so_and_a_later_version_that_it_is_one() -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    nothing = replace(analysis, segmentations=(emptied(analysis.segmentations[0]),))
    said = [line.text for line in lines_of(nothing, Edition(version=2), 1)]
    assert "liver-kidney 1.0.0: nothing found" in said
    assert "Version 2, replaces the one before" in said
    assert layers_of(nothing) == []


def test_each_kind_and_version_has_a_uid_of_its_own() -> None:
    analysis = drawn_analysis_of(pydicom_file(STILL))
    kinds, editions = (ResultKind.PR, ResultKind.SC), (FIRST, Edition(version=2))
    uids = {overlay_uid(kind, analysis, edition) for kind in kinds for edition in editions}
    assert len(uids) == 4
    assert overlay_uid(ResultKind.PR, analysis, FIRST) in uids


def test_a_frame_without_the_segment_has_no_outline() -> None:
    assert outlines(np.zeros((20, 30), bool)) == []

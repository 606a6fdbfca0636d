"""What dcmqi (by which 3D Slicer reads) and DCMTK make of results.

dcmqi 1.5.7 reads our reports, and SEGs of the nominal geometry. It wants a frame of reference and
ends by a signal on the default ("hybrid") geometry that OHIF and Weasis want.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_node.forms import Forms, SegmentationForm
from dicom_node.records import Analysis, ResultKind
from dicom_node.results.groups import PROBABILITY_DECIMALS
from tests.support.analyses import (
    CINE,
    PYDICOM_FILES,
    STILL,
    analysis_of,
    pydicom_file,
)
from tests.support.readers import measurements_by_dcmqi, page_by_dcmtk, segments_by_dcmqi
from tests.support.stills import write_each

pytestmark = [pytest.mark.viewers, pytest.mark.slow]

EVERY_NTH = 9


def written(name: str, folder: Path) -> tuple[Analysis, Path]:
    """Write the results of one of pydicom's files; return what was said, and the report."""
    analysis = analysis_of(pydicom_file(name), every_nth=EVERY_NTH)
    results = write_each(analysis, folder)
    [report] = [result.path for result in results if result.kind is ResultKind.SR]
    return analysis, report


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_dcmqi_reads_every_score_of_a_report(name: str, tmp_path: Path) -> None:
    pytest.importorskip("dcmqi", reason="needs the test group: make test installs it")
    analysis, report = written(name, tmp_path)
    groups = {
        group["TrackingIdentifier"]: [item["value"] for item in group["measurementItems"]]
        for group in measurements_by_dcmqi(report, tmp_path)["Measurements"]
        if group.get("measurementItems")
    }
    assert groups == {
        f"view quality, frame {score.frame}": [
            f"{score.score:.1f}",
            str(round(score.probability, PROBABILITY_DECIMALS)),
        ]
        for quality in analysis.qualities
        for score in quality.scores
    }


def test_dcmqi_reads_which_model_spoke(tmp_path: Path) -> None:
    pytest.importorskip("dcmqi", reason="needs the test group: make test installs it")
    analysis, report = written(CINE, tmp_path)
    spoke = {
        group["measurementAlgorithmIdentification"]["AlgorithmName"]
        for group in measurements_by_dcmqi(report, tmp_path)["Measurements"]
    }
    assert spoke == {
        analysis.qualities[0].algorithm.name,
        analysis.segmentations[0].algorithm.name,
    }


@pytest.mark.parametrize("name", [STILL, CINE])
def test_dcmqi_reads_the_pixels_of_a_nominal_segmentation(name: str, tmp_path: Path) -> None:
    pytest.importorskip("dcmqi", reason="needs the test group: make test installs it")
    analysis = analysis_of(pydicom_file(name), every_nth=EVERY_NTH)
    forms = Forms(segmentations=(SegmentationForm.NOMINAL,), reports=())
    [seg] = write_each(analysis, tmp_path, forms=forms)
    found = segments_by_dcmqi(seg.path, tmp_path)
    [said] = analysis.segmentations
    assert len(found) == len(said.segments)
    for segment, planes in zip(said.segments, found, strict=True):
        assert np.array_equal(planes[::-1] != 0, said.label_map == segment.value)


@pytest.mark.peers
@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_the_page_of_dsr2html_has_every_score(
    name: str, needs_program: Callable[[str], str], tmp_path: Path
) -> None:
    program = needs_program("dsr2html")
    analysis, report = written(name, tmp_path)
    page = page_by_dcmtk(program, report)
    found = re.findall(r"view quality, frame (\d+).*?([\d.]+) \{score\}", page)
    scores = analysis.qualities[0].scores
    assert found == [(str(score.frame), f"{score.score:.1f}") for score in scores]
    assert "AI image" in page

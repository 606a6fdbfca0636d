"""What dcmqi (by which 3D Slicer reads) and DCMTK make of results.

dcmqi 1.5.7 reads our reports. Of a SEG it wants a frame of reference and ends by a signal on the
default ("hybrid") geometry that OHIF and Weasis want; `read_by_dcmqi` with ``segimage2itkimage`` is
there for a geometry that has one.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.records import Analysis, ResultKind
from dicom_node.results import write_results
from dicom_node.results.groups import PROBABILITY_DECIMALS
from tests.support.analyses import CINE, INSTALLATION, PYDICOM_FILES, analysis_of, pydicom_file
from tests.support.readers import measurements_by_dcmqi, page_by_dcmtk

pytestmark = [pytest.mark.viewers, pytest.mark.slow]

EVERY_NTH = 9


def written(name: str, folder: Path) -> tuple[Analysis, Path]:
    """Write the results of one of pydicom's files; return what was said, and the report."""
    analysis = analysis_of(pydicom_file(name), every_nth=EVERY_NTH)
    results = write_results(analysis, folder, installation=INSTALLATION)
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

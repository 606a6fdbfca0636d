"""What leaves when something of an analysis does not pass the gate."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.forms import SOP_CLASSES, Forms, ReportForm
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Analysis, Edition, Result, ResultKind
from dicom_node.results import Overlays, write_results_or_failure
from dicom_node.results.failure import Written
from tests.support.analyses import INSTALLATION, STILL, analysis_of, pydicom_file

THREE_D, ENHANCED = ReportForm.COMPREHENSIVE_3D, ReportForm.ENHANCED


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analysis_of(pydicom_file(STILL))


@pytest.fixture(scope="module")
def overlays() -> Iterator[Overlays]:
    with PixelSandbox(memory_mib=768, timeout_s=60) as sandbox:
        yield Overlays(kinds=frozenset(), sandbox=sandbox)


def before(analysis: Analysis, form: ReportForm, uid: str) -> Result:
    """Return the report that a later one of that form names as replaced."""
    return Result(
        kind=ResultKind.SR,
        sop_instance_uid=uid,
        sop_class_uid=SOP_CLASSES[form],
        study_instance_uid=analysis.instance.study_instance_uid,
        source_sop_instance_uid=analysis.instance.sop_instance_uid,
        path=Path("former.dcm"),
        series_instance_uid=f"1.2.{len(form)}",
    )


def written(analysis: Analysis, folder: Path, overlays: Overlays, *reports: ReportForm) -> Written:
    """Write the second version of what is said; its Enhanced SR cannot pass the gate."""
    # no reader gives back the NUL at the end of a UID
    former = (before(analysis, THREE_D, "1.2.3"), before(analysis, ENHANCED, "1.2.4\0"))
    return write_results_or_failure(
        analysis,
        folder,
        installation=INSTALLATION,
        edition=Edition(version=2, predecessors=former),
        overlays=overlays,
        forms=Forms(reports=reports),
    )


def test_a_form_that_does_not_pass_the_gate_keeps_no_other_form_back(
    analysis: Analysis, overlays: Overlays, tmp_path: Path
) -> None:
    found = written(analysis, tmp_path, overlays, THREE_D, ENHANCED)
    assert [one.kind for one in found.results] == [ResultKind.SEG, ResultKind.SR]
    assert found.results[-1].form == THREE_D
    assert found.rejected.startswith("enhanced: the SR did not pass the gate: predecessors")
    [kept] = (tmp_path / "rejected").glob("*.dcm")
    assert kept.stem not in {one.sop_instance_uid for one in found.results}


def test_where_no_form_passes_nothing_of_the_analysis_leaves(
    analysis: Analysis, overlays: Overlays, tmp_path: Path
) -> None:
    found = written(analysis, tmp_path, overlays, ENHANCED)
    assert found.results == ()
    assert found.rejected.startswith("the SR did not pass the gate: predecessors")

from dataclasses import replace
from pathlib import Path

import pytest
from highdicom import sr
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.forms import SOP_CLASSES, Forms, ReportForm
from dicom_node.records import FIRST_EDITION, Edition, Result, ResultKind
from dicom_node.results import write_results
from tests.support.analyses import CINE, INSTALLATION, STILL, analysis_of, pydicom_file

#: of each writing its own
_TIMES = {
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "ContributionDateTime",
}
_THEIRS = {
    ReportForm.COMPREHENSIVE_3D: sr.Comprehensive3DSR,
    ReportForm.COMPREHENSIVE: sr.ComprehensiveSR,
    ReportForm.ENHANCED: sr.EnhancedSR,
}


def written(form: ReportForm, name: str, folder: Path, edition: Edition) -> Dataset:
    results = write_results(
        analysis_of(pydicom_file(name)),
        folder,
        installation=INSTALLATION,
        edition=edition,
        forms=Forms(reports=(form,)),
    )
    return dcmread(next(result.path for result in results if result.kind is ResultKind.SR))


def as_highdicom_writes(
    *, image: Dataset, content: Dataset, predecessors: list[Result], **arguments: object
) -> Dataset:
    """Write what a `Document` is made of with the library's own classes."""
    form = next(f for f, uid in SOP_CLASSES.items() if uid == arguments["sop_class_uid"])
    del arguments["sop_class_uid"]
    earlier = []
    for result in predecessors:
        identity = Dataset()
        identity.StudyInstanceUID = result.study_instance_uid
        identity.SeriesInstanceUID = result.series_instance_uid
        identity.SOPClassUID = result.sop_class_uid
        identity.SOPInstanceUID = result.sop_instance_uid
        earlier.append(identity)
    return _THEIRS[ReportForm(form)](
        evidence=[image],
        content=content,
        previous_versions=earlier or None,
        contributing_equipment=arguments.pop("equipment"),
        is_complete=True,
        is_final=True,
        **arguments,
    )


def without_times(dataset: Dataset) -> Dataset:
    for element in [*dataset]:
        if element.keyword in _TIMES:
            del dataset[element.tag]
        elif element.VR == "SQ":
            [without_times(item) for item in element.value]
    return dataset


@pytest.mark.parametrize("name", [STILL, CINE])
@pytest.mark.parametrize("form", ReportForm)
@pytest.mark.parametrize("version", [1, 2])
def test_a_report_is_what_highdicom_writes_of_the_same_content(
    form: ReportForm, name: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_results(analysis_of(pydicom_file(name)), tmp_path, installation=INSTALLATION)
    edition = FIRST_EDITION
    if version > 1:
        edition = replace(edition, version=version, predecessors=before)
    ours = written(form, name, tmp_path, edition)
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr("dicom_node.results.report.Document", as_highdicom_writes)
    theirs = written(form, name, tmp_path / "theirs", edition)
    assert type(ours) is type(theirs)
    assert str(without_times(ours)).splitlines() == str(without_times(theirs)).splitlines()
    assert ours.file_meta == theirs.file_meta
    assert ("PredecessorDocumentsSequence" in ours) == (version > 1)

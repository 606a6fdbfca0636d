import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from dicom_node.errors import ResultError
from dicom_node.records import Analysis, Edition
from dicom_node.results import write_results
from dicom_node.results.gate import report_faults
from dicom_node.results.source import read_source
from tests.support.analyses import (
    CINE,
    INSTALLATION,
    STILL,
    algorithm,
    altered,
    analysis_of,
    failure,
    pydicom_file,
    quality_of,
)


@pytest.fixture
def analysis() -> Analysis:
    return analysis_of(pydicom_file(CINE), every_nth=5)


def test_each_object_is_alone_in_its_series_and_in_the_study_of_the_image(
    analysis: Analysis, tmp_path: Path
) -> None:
    second = replace(analysis.segmentations[0], algorithm=algorithm("another-model"))
    analysis = replace(analysis, segmentations=(*analysis.segmentations, second))
    written = write_results(analysis, tmp_path, installation=INSTALLATION)
    assert [result.kind for result in written] == ["seg", "seg", "sr"]
    datasets = [dcmread(result.path) for result in written]
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 3
    assert {d.StudyInstanceUID for d in datasets} == {analysis.instance.study_instance_uid}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{result.sop_instance_uid}.dcm" for result in written
    )


def test_the_same_analysis_gives_the_same_objects_bit_for_bit(
    analysis: Analysis, tmp_path: Path
) -> None:
    first = write_results(analysis, tmp_path, installation=INSTALLATION)
    before = [result.path.read_bytes() for result in first]
    second = write_results(analysis, tmp_path, installation=INSTALLATION)
    assert first == second
    assert [result.path.read_bytes() for result in second] == before


def test_the_same_analysis_gives_the_same_uids_on_another_node(
    analysis: Analysis, tmp_path: Path
) -> None:
    uids = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        written = write_results(analysis, folder, installation=replace(INSTALLATION, serial=name))
        uids.append([result.sop_instance_uid for result in written])
    assert uids[0] == uids[1]


def test_another_model_another_image_or_another_end_gives_other_uids(
    analysis: Analysis, tmp_path: Path
) -> None:
    frames = analysis.segmentations[0].frames
    retrained = replace(analysis.segmentations[0], algorithm=algorithm("retrained"))
    analyses = (
        analysis,
        replace(analysis, segmentations=(retrained,)),
        replace(analysis, failures=(failure(),)),
        replace(analysis, segmentations=(), qualities=(quality_of(frames),)),
        analysis_of(pydicom_file(STILL)),
    )
    reports = {
        write_results(each, tmp_path, installation=INSTALLATION)[-1].sop_instance_uid
        for each in analyses
    }
    assert len(reports) == len(analyses)


def test_a_later_version_has_uids_of_its_own_in_the_same_series(
    analysis: Analysis, tmp_path: Path
) -> None:
    first = write_results(analysis, tmp_path, installation=INSTALLATION)
    edition = Edition(version=2, predecessors=first)
    second = write_results(analysis, tmp_path, installation=INSTALLATION, edition=edition)
    assert [result.supersedes for result in second] == [r.sop_instance_uid for r in first]
    for before, after in zip(first, second, strict=True):
        old, new = dcmread(before.path), dcmread(after.path)
        assert old.SOPInstanceUID != new.SOPInstanceUID
        assert old.SeriesInstanceUID == new.SeriesInstanceUID == after.series_instance_uid
        assert (old.InstanceNumber, new.InstanceNumber) == (1, 2)


def test_other_bytes_of_the_image_give_other_uids(analysis: Analysis, tmp_path: Path) -> None:
    other = replace(analysis, instance=replace(analysis.instance, sha256="f" * 64))
    uids = {
        result.sop_instance_uid
        for each in (analysis, other)
        for result in write_results(each, tmp_path, installation=INSTALLATION)
    }
    assert len(uids) == 4


def test_two_models_of_one_name_have_a_series_each(analysis: Analysis, tmp_path: Path) -> None:
    [one] = analysis.segmentations
    newer = replace(one.algorithm, version="2.0.0", digest="f" * 64)
    both = replace(analysis, segmentations=(one, replace(one, algorithm=newer)))
    written = write_results(both, tmp_path, installation=INSTALLATION)
    assert len({result.series_instance_uid for result in written}) == 3


def test_a_version_that_names_another_predecessor_than_was_meant_is_found_out(
    analysis: Analysis, tmp_path: Path
) -> None:
    first = write_results(analysis, tmp_path, installation=INSTALLATION)
    edition = Edition(version=2, predecessors=first)
    second = write_results(analysis, tmp_path, installation=INSTALLATION, edition=edition)
    report = dcmread(second[-1].path)
    reference = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.9"
    report.save_as(second[-1].path)
    source = read_source(analysis.instance, analysis.facts)
    faults = report_faults(second[-1].path, source=source, analysis=analysis, edition=edition)
    assert faults == ["predecessors"]


def test_a_damaged_object_in_the_folder_is_written_again_the_same_but_for_the_time(
    analysis: Analysis, tmp_path: Path
) -> None:
    first = write_results(analysis, tmp_path, installation=INSTALLATION)
    before = [_without_times(result.path) for result in first]
    for result in first:
        whole = result.path.read_bytes()
        result.path.write_bytes(whole[: len(whole) // 2])
    assert write_results(analysis, tmp_path, installation=INSTALLATION) == first
    assert [_without_times(result.path) for result in first] == before


def _without_times(path: Path) -> list[tuple[BaseTag, Any]]:
    elements = dcmread(path).iterall()
    times = {VR.DA, VR.DT, VR.TM}
    return [(each.tag, each.value) for each in elements if each.VR not in times | {VR.SQ}]


def test_an_analysis_in_which_no_model_spoke_gives_nothing(
    analysis: Analysis, tmp_path: Path
) -> None:
    silent = replace(analysis, segmentations=(), qualities=())
    assert write_results(silent, tmp_path, installation=INSTALLATION) == ()
    assert not list(tmp_path.iterdir())


def test_an_object_that_does_not_pass_the_gate_does_not_stay(
    analysis: Analysis, tmp_path: Path
) -> None:
    # no reader gives back the NUL at the end of a text
    unwritable = replace(failure(), reason="broken\0")
    analysis = replace(analysis, segmentations=(), failures=(unwritable,))
    with pytest.raises(ResultError, match="did not pass the gate: summary"):
        write_results(analysis, tmp_path, installation=INSTALLATION)
    assert not list(tmp_path.glob("*.dcm*"))
    (kept,) = (tmp_path / "rejected").glob("*.dcm")
    assert kept.with_suffix(".txt").read_text("utf-8") == "summary\n"


def test_scores_of_frames_that_the_image_does_not_have_are_refused(
    analysis: Analysis, tmp_path: Path
) -> None:
    analysis = replace(analysis, qualities=(quality_of((1, 31)),))
    with pytest.raises(ResultError, match="must ascend"):
        write_results(analysis, tmp_path, installation=INSTALLATION)


def test_no_warning_about_a_patients_data_escapes(tmp_path: Path) -> None:
    path = altered(
        pydicom_file(STILL), tmp_path / "in.dcm", lambda d: setattr(d, "PatientName", "A" * 99)
    )
    analysis = analysis_of(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_results(analysis, tmp_path, installation=INSTALLATION)
    assert not caught

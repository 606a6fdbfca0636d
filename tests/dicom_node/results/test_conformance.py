"""Every result of every real file, before the validators of other people."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.errors import PermanentError
from dicom_node.records import Analysis, CodedConcept, Edition, Result, ResultKind
from tests.support.analyses import (
    CINE,
    PYDICOM_FILES,
    STILL,
    analysis_of,
    emptied,
    failure,
    named,
    pydicom_file,
    without_scores,
)
from tests.support.stills import write_each
from tests.support.validators import dciodvfy_errors, pixelmed_errors, without_illegal_uids

pytestmark = [pytest.mark.peers, pytest.mark.slow]

#: Of the real files, no result can be of these: no image in it, and no study it belongs to.
WITHOUT_RESULT = {"cornerstone3D__no-meta-length-test.dcm", "dcmjs__undefined-length-test.dcm"}


def kinds_of_reports() -> Iterator[Analysis]:
    """One analysis for each shape that a report can have."""
    still = analysis_of(pydicom_file(STILL))
    cine = analysis_of(pydicom_file(CINE), every_nth=6)
    unreadable = replace(cine.facts, rows=0, columns=0, number_of_frames=1)
    yield still
    yield replace(still, segmentations=(emptied(still.segmentations[0]),))
    yield replace(cine, failures=(failure(),))
    yield replace(cine, qualities=())
    yield replace(
        cine, facts=unreadable, segmentations=(), qualities=(), failures=(failure(), failure("b"))
    )


def second_editions() -> Iterator[tuple[Analysis, Edition]]:
    """A later version and a later revision of a still and of a cine."""
    for name in (STILL, CINE):
        analysis = analysis_of(pydicom_file(name), every_nth=9)
        uid = "2.25.1"
        earlier = Result(
            kind=ResultKind.SR,
            sop_instance_uid=uid,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
            study_instance_uid=analysis.instance.study_instance_uid,
            source_sop_instance_uid=analysis.instance.sop_instance_uid,
            path=Path(f"{uid}.dcm"),
            series_instance_uid="2.25.2",
        )
        yield analysis, Edition(version=2, study_revision=3, predecessors=(earlier,))


def test_a_later_version_has_no_errors_in_dciodvfy_and_pixelmed(tmp_path: Path) -> None:
    reports = []
    for number, (analysis, edition) in enumerate(second_editions()):
        own = tmp_path / str(number)
        own.mkdir()
        written = write_each(analysis, own, edition=edition)
        for result in written:
            assert dciodvfy_errors(result.path) == []
        reports.append(written[-1].path)
    assert {path.name: errors for path, errors in pixelmed_errors(reports).items() if errors} == {}


def written_for(analyses: Iterator[Analysis], folder: Path) -> dict[Path, Result]:
    """Write each analysis into its own folder: real files repeat their UIDs."""
    written: dict[Path, Result] = {}
    for number, analysis in enumerate(analyses):
        own = folder / str(number)
        own.mkdir()
        for result in write_each(analysis, own):
            written[result.path] = result
    return written


def real_analyses(test_data: Path) -> Iterator[Analysis]:
    for path in sorted((test_data / "dicom_us").glob("*.dcm")):
        if path.name not in WITHOUT_RESULT:
            yield analysis_of(path, every_nth=4)


@pytest.fixture(scope="module")
def real_results(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Result]:
    return written_for(real_analyses(test_data), tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("name", PYDICOM_FILES)
def test_results_of_pydicoms_files_have_no_errors_in_dciodvfy(name: str, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(name))
    for result in write_each(analysis, tmp_path):
        assert dciodvfy_errors(result.path) == []


def test_every_shape_of_a_report_has_no_errors_in_dciodvfy(tmp_path: Path) -> None:
    written = written_for(kinds_of_reports(), tmp_path)
    assert {path.name: found for path in written if (found := dciodvfy_errors(path))} == {}


def test_a_report_with_missing_numbers_has_no_errors_in_dciodvfy(tmp_path: Path) -> None:
    # PixelMed calls each an error: its TID 300 has no NUM without a value, PS3.3 C.18.1 has
    cine = analysis_of(pydicom_file(CINE), every_nth=6)
    partial = replace(cine, qualities=(without_scores(cine.qualities[0], 1, 13),))
    written = written_for(iter([partial]), tmp_path)
    assert {path.name: found for path in written if (found := dciodvfy_errors(path))} == {}


@pytest.mark.timeout(600)
def test_every_shape_of_a_report_has_no_errors_in_pixelmed(tmp_path: Path) -> None:
    written = written_for(kinds_of_reports(), tmp_path)
    reports = [path for path, result in written.items() if result.kind is ResultKind.SR]
    broken = tmp_path / "broken.dcm"
    with_other_procedure(reports[0], broken)
    found = pixelmed_errors([*reports, broken])
    assert list(found) == [*reports, broken]
    assert found.pop(broken), "the validator must be able to fail"
    assert {path.parent.name: errors for path, errors in found.items() if errors} == {}


def with_other_procedure(report: Path, target: Path) -> None:
    """Copy a report with a Procedure Reported that is not of CID 100."""
    dataset = dcmread(report)
    procedure = CodedConcept(value="121058", scheme="DCM", meaning="Procedure reported")
    (item,) = named(dataset, procedure)
    item.ConceptCodeSequence[0].CodeValue = "45036003"
    dataset.save_as(target)


def test_dciodvfy_finds_what_is_missing(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    for result in write_each(analysis, tmp_path):
        dataset = dcmread(result.path)
        del dataset.Modality
        dataset.save_as(result.path)
        assert any("Modality" in error for error in dciodvfy_errors(result.path))


@pytest.mark.data
def test_every_real_image_with_a_study_gives_a_seg_and_a_report(
    real_results: dict[Path, Result], test_data: Path
) -> None:
    files = {path.name for path in (test_data / "dicom_us").glob("*.dcm")} - WITHOUT_RESULT
    kinds = [result.kind for result in real_results.values()]
    assert kinds.count(ResultKind.SEG) == kinds.count(ResultKind.SR) == len(files) > 0


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(WITHOUT_RESULT))
def test_a_real_file_that_can_have_no_result_is_refused(
    name: str, test_data: Path, tmp_path: Path
) -> None:
    path = test_data / "dicom_us" / name
    with pytest.raises(PermanentError, match=r"no StudyInstanceUID|not an image"):
        write_each(analysis_of(path), tmp_path)


@pytest.mark.data
def test_results_of_every_real_image_have_no_errors_in_dciodvfy(
    real_results: dict[Path, Result],
) -> None:
    errors = {
        path.name: found
        for path in real_results
        if (found := without_illegal_uids(dciodvfy_errors(path)))
    }
    assert errors == {}


@pytest.mark.data
@pytest.mark.timeout(900)
def test_reports_of_every_real_image_have_no_errors_in_pixelmed(
    real_results: dict[Path, Result],
) -> None:
    reports = [path for path, result in real_results.items() if result.kind is ResultKind.SR]
    found = pixelmed_errors(reports)
    assert list(found) == reports
    assert {path.name: errors for path, errors in found.items() if errors} == {}

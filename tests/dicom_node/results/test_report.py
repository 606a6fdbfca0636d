import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import codes
from dicom_node.records import Analysis, ResultKind
from dicom_node.results import write_results
from tests.support.analyses import (
    CINE,
    INSTALLATION,
    STILL,
    analysis_of,
    emptied,
    failure,
    items,
    named,
    pydicom_file,
    without_scores,
)


def report_of(analysis: Analysis, folder: Path) -> Dataset:
    written = write_results(analysis, folder, installation=INSTALLATION)
    (report,) = (result for result in written if result.kind is ResultKind.SR)
    return dcmread(report.path)


def summary(report: Dataset) -> str:
    (container,) = named(report, codes.QUALITATIVE_EVALUATIONS)
    return str(named(container, codes.FINDINGS_SUMMARY)[0].ConceptCodeSequence[0].CodeValue)


def comments(report: Dataset) -> list[str]:
    return [item.TextValue for item in named(report, codes.COMMENT)]


def test_a_frame_without_a_score_says_that_the_measurement_failed(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=4)
    report = report_of(
        replace(analysis, qualities=(without_scores(analysis.qualities[0], 5, 9),)), tmp_path
    )
    for name in (codes.VIEW_QUALITY, codes.PROBABILITY):
        numbers = [item for item in named(report, name) if item.ValueType == "NUM"]
        assert len(numbers) == len(analysis.qualities[0].scores)
        failed = [item for item in numbers if not item.MeasuredValueSequence]
        assert numbers[1:3] == failed
        for item in failed:
            [reason] = item.NumericValueQualifierCodeSequence
            assert (reason.CodeValue, reason.CodingSchemeDesignator) == ("114006", "DCM")
        for item in numbers[:1] + numbers[3:]:
            assert "NumericValueQualifierCodeSequence" not in item
    assert "gave no number for frames 5, 9" in comments(report)[0]


def test_a_score_that_comes_later_after_all_gives_another_report(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    failed = replace(analysis, qualities=(without_scores(analysis.qualities[0], 1),))
    uids = {report_of(each, tmp_path).SOPInstanceUID for each in (failed, analysis)}
    assert len(uids) == 2


def test_the_observer_is_the_installation_and_each_group_names_its_algorithm(
    tmp_path: Path,
) -> None:
    report = report_of(analysis_of(pydicom_file(STILL)), tmp_path)
    by_name = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in items(report)}
    assert by_name["Observer Type"].ConceptCodeSequence[0].CodeMeaning == "Device"
    uid, serial = by_name["Device Observer UID"], by_name["Device Observer Serial Number"]
    assert (uid.UID, serial.TextValue) == (INSTALLATION.uid, INSTALLATION.serial)
    names = [i for i in items(report) if i.ConceptNameCodeSequence[0].CodeValue == "111001"]
    assert [item.TextValue for item in names] == ["view-quality", "liver-kidney"]


def test_each_model_is_contributing_equipment_whose_device_changes_with_every_training(
    tmp_path: Path,
) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    [quality] = analysis.qualities
    retrained = replace(quality, algorithm=replace(quality.algorithm, digest="f" * 64))
    devices = []
    for each in (analysis, replace(analysis, qualities=(retrained,))):
        equipment = report_of(each, tmp_path).ContributingEquipmentSequence
        # highdicom names itself after the models
        models = equipment[:2]
        purposes = [item.PurposeOfReferenceCodeSequence[0] for item in models]
        assert {(p.CodeValue, p.CodingSchemeDesignator, p.CodeMeaning) for p in purposes} == {
            ("1630", "99IHE", "Processing Algorithm")
        }
        devices.append([item.DeviceUID for item in models])
    assert devices[0][0] != devices[1][0]
    assert devices[0][1] == devices[1][1]


@pytest.mark.parametrize("name", [STILL, CINE])
def test_each_frame_has_its_score_and_probability(name: str, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(name), every_nth=4)
    report = report_of(analysis, tmp_path)
    named_quality = named(report, codes.VIEW_QUALITY)
    numbers = [item for item in named_quality if item.ValueType == "NUM"]
    found = [item.MeasuredValueSequence[0].NumericValue for item in numbers]
    chances = [i.MeasuredValueSequence[0].NumericValue for i in named(report, codes.PROBABILITY)]
    scores = analysis.qualities[0].scores
    assert found == [score.score for score in scores]
    assert chances == pytest.approx([score.probability for score in scores], abs=5e-5)


def test_a_scored_view_names_the_sites_of_its_model(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    [quality] = analysis.qualities
    sites = (codes.KIDNEY, codes.PERITONEAL_CAVITY)
    analysis = replace(analysis, qualities=(replace(quality, finding_sites=sites),))
    report = report_of(analysis, tmp_path)
    found = [
        item.ConceptCodeSequence[0].CodeValue
        for item in items(report)
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue == "363698007"
    ]
    # the score's group comes first; the segmentation names its own
    assert found[: len(sites)] == [site.value for site in sites]


def test_a_score_of_a_cine_is_anchored_on_its_frame(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=7)
    analysis = replace(analysis, segmentations=())
    report = report_of(analysis, tmp_path)
    points = [item for item in items(report) if item.ValueType == "SCOORD"]
    assert [p.GraphicType for p in points] == ["POINT"] * 5
    assert points[0].GraphicData == pytest.approx([0.05 * 320, 0.10 * 240])
    references = [p.ContentSequence[0].ReferencedSOPSequence[0] for p in points]
    assert [r.ReferencedFrameNumber for r in references] == [1, 8, 15, 22, 29]


def test_a_still_is_referred_to_without_a_frame_number(tmp_path: Path) -> None:
    report = report_of(analysis_of(pydicom_file(STILL)), tmp_path)
    references = [r for item in items(report) for r in item.get("ReferencedSOPSequence", ())]
    assert references
    assert all("ReferencedFrameNumber" not in reference for reference in references)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a, "111242"),
        (lambda a: replace(a, segmentations=()), "111241"),
        (lambda a: replace(a, segmentations=(emptied(a.segmentations[0]),)), "111241"),
        (
            lambda a: replace(
                a, segmentations=(emptied(a.segmentations[0]),), failures=(failure(),)
            ),
            "111243",
        ),
        (lambda a: replace(a, failures=(failure(),)), "111244"),
        (lambda a: replace(a, segmentations=(), qualities=(), failures=(failure(),)), "111245"),
        (lambda a: replace(a, qualities=(without_scores(a.qualities[0], 1),)), "111244"),
        (
            lambda a: replace(a, segmentations=(), qualities=(without_scores(a.qualities[0], 1),)),
            "111245",
        ),
    ],
)
def test_the_summary_is_the_code_of_cid_6047_that_fits(
    change: Callable[[Analysis], Analysis], code: str, tmp_path: Path
) -> None:
    assert summary(report_of(change(analysis_of(pydicom_file(STILL))), tmp_path)) == code


def test_a_model_that_found_nothing_gets_a_sentence_and_no_seg(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    analysis = replace(analysis, segmentations=(emptied(analysis.segmentations[0]),))
    written = write_results(analysis, tmp_path, installation=INSTALLATION)
    assert [result.kind for result in written] == [ResultKind.SR]
    (sentence,) = comments(dcmread(written[0].path))
    assert "nothing found" in sentence


def test_an_image_that_cannot_be_decoded_gets_a_report_with_the_reason(tmp_path: Path) -> None:
    whole = analysis_of(pydicom_file(CINE))
    unknown = replace(whole.facts, rows=0, columns=0, number_of_frames=1, region=None)
    analysis = replace(
        whole, facts=unknown, segmentations=(), qualities=(), failures=(failure("a"), failure("b"))
    )
    report = report_of(analysis, tmp_path)
    assert summary(report) == "111245"
    assert all(text.endswith("the pixels cannot be decoded") for text in comments(report))
    assert len(comments(report)) == 2


def test_the_report_is_complete_and_unverified_and_names_its_coding_scheme(tmp_path: Path) -> None:
    report = report_of(analysis_of(pydicom_file(STILL)), tmp_path)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DICOMNODE"
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    models = [item.ManufacturerModelName for item in report.ContributingEquipmentSequence]
    assert models[:2] == ["view-quality", "liver-kidney"]


def dumped(report: Path, program: str) -> str:
    done = subprocess.run([program, "+Pc", str(report)], capture_output=True, text=True, check=True)
    assert "E:" not in done.stderr
    return done.stdout


@pytest.mark.peers
def test_dsrdump_reads_the_report(needs_program: Callable[[str], str], tmp_path: Path) -> None:
    program = needs_program("dsrdump")
    analysis = analysis_of(pydicom_file(CINE), every_nth=9)
    written = write_results(analysis, tmp_path, installation=INSTALLATION)
    assert dumped(written[-1].path, program).count('(122157,DCM,"Probability")=') == 4


@pytest.mark.peers
def test_dsrdump_reads_why_a_number_is_missing(
    needs_program: Callable[[str], str], tmp_path: Path
) -> None:
    program = needs_program("dsrdump")
    analysis = analysis_of(pydicom_file(CINE), every_nth=9)
    analysis = replace(analysis, qualities=(without_scores(analysis.qualities[0], 10),))
    written = write_results(analysis, tmp_path, installation=INSTALLATION)
    said = dumped(written[-1].path, program)
    assert said.count('114006,DCM,"Measurement failure"') == 2

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.config import Destination
from dicom_node.forms import (
    DEFAULT_FORMS,
    SOP_CLASSES,
    Forms,
    ReportForm,
    SegmentationForm,
    asked_forms,
    has_form,
)
from dicom_node.records import Analysis, Edition, Result, ResultKind
from dicom_node.results.gate import segmentation_faults
from dicom_node.results.source import read_source
from tests.support.analyses import (
    CINE,
    STILL,
    analysis_of,
    pydicom_file,
    segmentation_of,
)
from tests.support.stills import write_each
from tests.support.validators import dciodvfy_errors, pixelmed_errors

ALL = Forms(segmentations=tuple(SegmentationForm), reports=tuple(ReportForm))
NOMINAL, LABELMAP = SegmentationForm.NOMINAL, SegmentationForm.LABELMAP


def shapes() -> dict[str, Analysis]:
    """Return a still, a cine thinned out, one frame of a cine, and a model of a single segment."""
    cine = analysis_of(pydicom_file(CINE), every_nth=3)
    still = analysis_of(pydicom_file(STILL))
    one = still.segmentations[0]
    single = replace(one, segments=one.segments[:1], label_map=np.minimum(one.label_map, 1))
    return {
        "still": still,
        "cine": cine,
        "one frame": replace(cine, segmentations=(segmentation_of(cine.facts, (17,)),)),
        "one segment": replace(still, segmentations=(single,)),
    }


def only(form: SegmentationForm) -> Forms:
    return Forms(segmentations=(form,))


def destination(name: str, *send: str, **forms: str) -> Destination:
    return Destination.model_validate(
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "send": send} | forms
    )


def seg_of(analysis: Analysis, folder: Path, form: SegmentationForm) -> hd.seg.Segmentation:
    written = write_each(analysis, folder, forms=only(form))
    return hd.seg.segread(written[0].path)


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("form", SegmentationForm)
def test_every_form_of_a_segmentation_reads_back_as_it_was_predicted(
    form: SegmentationForm, shape: str, tmp_path: Path
) -> None:
    analysis = shapes()[shape]
    seg = seg_of(analysis, tmp_path, form)
    [segmentation] = analysis.segmentations
    uid = analysis.instance.sop_instance_uid
    if analysis.facts.number_of_frames > 1:
        found = seg.get_pixels_by_source_frame(
            uid, segmentation.frames, combine_segments=True, ignore_spatial_locations=True
        )
    else:
        found = seg.get_pixels_by_source_instance(
            [uid], combine_segments=True, ignore_spatial_locations=True
        )
    assert np.array_equal(found, segmentation.label_map)
    assert seg.SOPClassUID == seg.file_meta.MediaStorageSOPClassUID == SOP_CLASSES[form]
    assert seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


@pytest.mark.parametrize("name", [STILL, CINE])
def test_the_nominal_form_has_planes_in_a_frame_of_reference(name: str, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(name), every_nth=7)
    analysis = replace(analysis, facts=replace(analysis.facts, spacing_mm=(0.25, 0.5)))
    seg = seg_of(analysis, tmp_path, NOMINAL)
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert seg.FrameOfReferenceUID.startswith("2.25.")
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.25, 0.5]
    assert len(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == 6
    positions = {
        item.DerivationImageSequence[0]
        .SourceImageSequence[0]
        .get("ReferencedFrameNumber", 1): item.PlanePositionSequence[0].ImagePositionPatient[2]
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert positions == {frame: 1 - frame for frame in analysis.segmentations[0].frames}


def test_all_nominal_segmentations_of_an_image_lie_in_one_frame_of_reference(
    tmp_path: Path,
) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=7)
    first = seg_of(analysis, tmp_path, NOMINAL)
    other = replace(analysis.instance, sha256="f" * 64)
    second = seg_of(replace(analysis, instance=other), tmp_path, NOMINAL)
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_a_label_map_has_one_frame_a_source_frame_and_a_background(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=3)
    seg = seg_of(analysis, tmp_path, LABELMAP)
    assert seg.SegmentationType == "LABELMAP"
    assert seg.NumberOfFrames == len(analysis.segmentations[0].frames)
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [0, 1, 2]
    assert "FrameOfReferenceUID" not in seg


@pytest.mark.parametrize("form", ReportForm)
def test_highdicom_reads_the_report_of_every_class(form: ReportForm, tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(CINE), every_nth=9)
    forms = Forms(reports=(form,))
    written = write_each(analysis, tmp_path, forms=forms)
    report = hd.sr.srread(written[-1].path)
    assert report.SOPClassUID == written[-1].sop_class_uid == SOP_CLASSES[form]
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == len(analysis.qualities[0].scores) + 1


def test_every_form_is_an_object_of_its_own_in_a_series_of_its_own(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    written = write_each(analysis, tmp_path, forms=ALL)
    assert [result.form for result in written] == [*SegmentationForm, *ReportForm]
    assert len({result.sop_instance_uid for result in written}) == len(written)
    assert len({result.series_instance_uid for result in written}) == len(written)
    for result in written:
        dataset = dcmread(result.path, stop_before_pixels=True)
        assert dataset.SOPInstanceUID == result.sop_instance_uid
        assert dataset.SeriesInstanceUID == result.series_instance_uid


def test_the_default_forms_have_the_uids_that_they_had_before_there_were_others(
    tmp_path: Path,
) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    written = write_each(analysis, tmp_path, forms=ALL)
    default = {*DEFAULT_FORMS.segmentations, *DEFAULT_FORMS.reports}
    found = [
        (result.sop_instance_uid, result.series_instance_uid)
        for result in written
        if result.form in default
    ]
    assert found == [
        (
            "2.25.91566120704867020528001715919086567513",
            "2.25.36577342651459610884382432655825859612",
        ),
        (
            "2.25.210328074374572117225157199380169511277",
            "2.25.87620000051044566065990078442370143470",
        ),
    ]


def references(report: Dataset) -> list[str]:
    [study] = report.PredecessorDocumentsSequence
    return [
        str(item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def written_again(first: tuple[Result, ...], folder: Path, forms: Forms) -> tuple[Result, ...]:
    analysis = analysis_of(pydicom_file(STILL))
    edition = Edition(version=2, predecessors=first)
    return write_each(analysis, folder, edition=edition, forms=forms)


def test_a_later_version_takes_the_place_of_its_own_form(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    first = write_each(analysis, tmp_path, forms=ALL)
    second = written_again(first, tmp_path, ALL)
    assert [result.supersedes for result in second] == [r.sop_instance_uid for r in first]
    for before, after in zip(first, second, strict=True):
        if after.kind is ResultKind.SR:
            assert references(dcmread(after.path)) == [before.sop_instance_uid]


def test_a_report_of_a_class_that_is_new_names_the_one_of_the_class_before(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    first = write_each(analysis, tmp_path)
    second = written_again(first, tmp_path, Forms(reports=(ReportForm.ENHANCED,)))
    assert references(dcmread(second[-1].path)) == [first[-1].sop_instance_uid]


@pytest.mark.parametrize("form", [SegmentationForm.HYBRID, NOMINAL])
def test_a_seg_in_the_geometry_of_another_form_is_found_out(
    form: SegmentationForm, tmp_path: Path
) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    [seg, *_] = write_each(analysis, tmp_path, forms=only(form))
    dataset = dcmread(seg.path)
    if form is NOMINAL:
        del dataset.FrameOfReferenceUID
    else:
        dataset.FrameOfReferenceUID = "2.25.1"
    dataset.save_as(seg.path)
    source = read_source(analysis.instance, analysis.facts)
    [segmentation] = analysis.segmentations
    faults = segmentation_faults(seg.path, source=source, segmentation=segmentation, form=form)
    assert faults


def test_only_forms_that_some_destination_takes_are_asked() -> None:
    slicer = destination("slicer", "seg", segmentation="nominal", report="enhanced")
    reports = destination("reports", "sr", segmentation="labelmap", report="comprehensive")
    assert asked_forms([]) == DEFAULT_FORMS
    assert asked_forms([slicer]) == Forms(segmentations=(NOMINAL,))
    assert asked_forms([reports]) == Forms(reports=(ReportForm.COMPREHENSIVE,))
    assert asked_forms([slicer, reports, destination("pacs", "seg", "sr")]) == Forms(
        segmentations=(SegmentationForm.HYBRID, NOMINAL),
        reports=(ReportForm.COMPREHENSIVE_3D, ReportForm.COMPREHENSIVE),
    )


def test_a_destination_takes_only_its_form_of_the_kinds_that_it_wants(tmp_path: Path) -> None:
    analysis = analysis_of(pydicom_file(STILL))
    written = write_each(analysis, tmp_path, forms=ALL)
    wants = destination("slicer", "seg", segmentation="nominal", report="enhanced")
    fitting = [result.form for result in written if has_form(result, wants)]
    assert fitting == [NOMINAL, ReportForm.ENHANCED]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_form_has_errors_in_dciodvfy_and_pixelmed(tmp_path: Path) -> None:
    # dicom3tools of 2022 does not know Label Map Segmentation Storage
    known = Forms(segmentations=(SegmentationForm.HYBRID, NOMINAL), reports=ALL.reports)
    errors, reports = {}, []
    for shape, analysis in shapes().items():
        folder = tmp_path / shape.replace(" ", "_")
        folder.mkdir()
        for result in write_each(analysis, folder, forms=known):
            if found := dciodvfy_errors(result.path):
                errors[shape, result.form] = found
            if result.kind is ResultKind.SR and shape in ("still", "cine"):
                reports.append(result.path)
    assert errors == {}
    found_in = pixelmed_errors(reports)
    assert {path: found for path, found in found_in.items() if found} == {}

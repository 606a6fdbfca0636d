from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from structlog.testing import capture_logs

from dicom_node.codes import COMMENT
from dicom_node.config import (
    Config,
    Destination,
    HarvestSettings,
    InferSettings,
    NodeSettings,
    StudySettings,
)
from dicom_node.node.worker import open_parts
from dicom_node.outbox import DeliveryState, Said
from dicom_node.phantom.series import SeriesSpec, write_series
from dicom_node.pipeline import Parts, analyse_study, deliver_errand, finish_study, harvest_study
from dicom_node.records import CodedConcept, ResultKind, Task
from dicom_node.register import RegisterCounts, register_waiting

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.analyses import named
from tests.support.bundles import HEIGHT, WIDTH, write_bundle
from tests.support.frames import with_its_region
from tests.support.graphs import hangs

#: (111001,DCM,"Algorithm Name")
ALGORITHM_NAME = CodedConcept(value="111001", scheme="DCM", meaning="Algorithm Name")
STILL = Path(str(get_testdata_file("examples_palette.dcm")))


def nowhere(name: str, *send: str) -> Destination:
    """Return a destination that nothing listens at, and that has no ladder."""
    return Destination(name=name, ae_title="PACS", host="127.0.0.1", port=1, send=send, fallback=())


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "bundles").mkdir()
    write_bundle(tmp_path / "bundles" / "segmentation.onnx", Task.SEGMENTATION)
    write_bundle(tmp_path / "bundles" / "quality.onnx", Task.QUALITY)
    config = Config(
        node=NodeSettings(data=tmp_path / "data", min_free_gib=0),
        study=StudySettings(quiet_s=1),
        infer=InferSettings(threads=1),
        bundles=tmp_path / "bundles",
        destinations=(nowhere("all", "seg", "sr"), nowhere("reports", "sr")),
    )
    with open_parts(config) as opened:
        yield opened


def received(parts: Parts, path: Path, counts: RegisterCounts | None = None) -> str:
    """Put a file into the inbox as the receiver does, register it, return its study."""
    part = parts.inbox.create()
    part.write(path.read_bytes())
    part.commit()
    expected = counts or RegisterCounts(new=1)
    assert register_waiting(parts.inbox, parts.index, now=datetime.now(UTC)) == expected
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def owed(parts: Parts) -> set[tuple[str, ResultKind]]:
    return {(row.destination, row.kind) for row in parts.outbox.rows()}


def test_each_destination_is_owed_the_kinds_that_it_wants(parts: Parts) -> None:
    study = received(parts, STILL)
    assert analyse_study(parts, study, "1") == {"images": 1, "results": 2, "failures": 0}
    assert owed(parts) == {
        ("all", ResultKind.SEG),
        ("all", ResultKind.SR),
        ("reports", ResultKind.SR),
    }


def test_each_destination_is_owed_the_form_that_it_takes(parts: Parts) -> None:
    slicer = nowhere("slicer", "seg").model_copy(update={"segmentation": "nominal"})
    old = nowhere("old", "seg", "sr").model_copy(update={"report": "comprehensive"})
    wanted = parts.config.model_copy(update={"destinations": (slicer, old)})
    study = received(parts, STILL)
    analyse_study(replace(parts, config=wanted), study, "1")
    headers = {path.stem: dcmread(path) for path in parts.results.glob("*.dcm")}
    rows = parts.outbox.rows()
    assert {row.sop_instance_uid for row in rows} == headers.keys()
    classes = {
        (
            row.destination,
            "FrameOfReferenceUID" in header,
            str(header.SOPClassUID).rpartition(".66.")[2],
        )
        for row in rows
        for header in [headers[row.sop_instance_uid]]
    }
    assert classes == {
        ("slicer", True, "4"),
        ("old", False, "4"),
        ("old", False, "1.2.840.10008.5.1.4.1.1.88.33"),
    }


def test_what_became_of_an_image_is_written_down_for_who_asks_later(
    parts: Parts, tmp_path: Path
) -> None:
    study = received(parts, with_its_region(tmp_path / "still.dcm"))
    trail = parts.outbox.trail
    harvest_study(parts, study, "1")
    [harvest] = trail.harvested(study)
    assert harvest.counts == {"frames stored": 1}
    analyse_study(parts, study, "1")
    assert {(row.name, row.said) for row in trail.answers(study)} == {
        ("test-segmentation", Said.FOUND),
        ("test-quality", Said.SCORED),
    }
    assert {row.digest for row in trail.answers(study)} == {
        bundle.manifest.digest for bundle in parts.models.current()
    }
    assert [row.kind for row in trail.passed(study)] == [ResultKind.SR, ResultKind.SEG]
    assert trail.rejections(study) == []


def test_stages_that_run_again_change_nothing(parts: Parts, tmp_path: Path) -> None:
    study = received(parts, with_its_region(tmp_path / "still.dcm"))
    assert harvest_study(parts, study, "1") == {"frames stored": 1}
    assert harvest_study(parts, study, "1") == {"frames stored": 0, "already stored": 1}
    analyse_study(parts, study, "1")
    files = sorted(parts.results.iterdir())
    assert analyse_study(parts, study, "1")["results"] == 0
    assert sorted(parts.results.iterdir()) == files


def test_another_set_of_models_speaks_again(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    assert parts.config.bundles is not None
    write_bundle(parts.config.bundles / "quality.onnx", Task.QUALITY, version="2")
    assert analyse_study(parts, study, "1")["results"] >= 1


def reports(parts: Parts) -> list[FileDataset]:
    """Return the reports in the order of their versions."""
    found = [dcmread(path) for path in parts.results.glob("*.dcm")]
    return sorted((ds for ds in found if ds.Modality == "SR"), key=lambda ds: ds.InstanceNumber)


def words(report: FileDataset) -> str:
    """Return the comments of a report."""
    return "; ".join(item.TextValue for item in named(report, COMMENT))


def test_what_other_models_say_replaces_the_old_in_its_series(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    assert parts.config.bundles is not None
    for task in Task:
        write_bundle(parts.config.bundles / f"{task.value}.onnx", task, version="2")
    analyse_study(parts, study, "1")
    first, second = reports(parts)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    [reference] = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == first.SeriesInstanceUID
    assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert "Version 2 of the report" in words(second)
    segs = [dcmread(path) for path in parts.results.glob("*.dcm")]
    segs = [ds for ds in segs if ds.Modality == "SEG"]
    assert len({ds.SeriesInstanceUID for ds in segs}) == 1
    assert sorted(ds.InstanceNumber for ds in segs) == [1, 2]
    rows = parts.outbox.rows()
    assert {row.state for row in rows if row.version == 1} == {DeliveryState.WITHDRAWN}
    assert {row.state for row in rows if row.version == 2} == {DeliveryState.WAITING}
    assert {row.supersedes for row in rows if row.version == 2} == {
        row.sop_instance_uid for row in rows if row.version == 1
    }


def test_bytes_that_were_replaced_are_answered_anew_and_never_under_the_old_uid(
    parts: Parts, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(STILL.read_bytes()[:-1000])
    study = received(parts, damaged)
    analyse_study(parts, study, "1")
    received(parts, STILL, RegisterCounts(conflicts=1))
    analyse_study(parts, study, "2")
    first, second = reports(parts)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert "Study revision 2" in words(second)
    assert "Study revision" not in words(first)


def test_a_crash_before_the_second_version_is_owed_leaves_one_second_version(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    data = parts.config.node.data
    before = {path: path.read_bytes() for path in data.glob("outbox.db*")}
    assert parts.config.bundles is not None
    write_bundle(parts.config.bundles / "quality.onnx", Task.QUALITY, version="2")
    analyse_study(parts, study, "1")
    files = sorted(parts.results.iterdir())
    parts.outbox.close()
    for path in data.glob("outbox.db*"):
        path.unlink()
    for path, content in before.items():
        if not path.name.endswith("-shm"):
            path.write_bytes(content)
    with open_parts(parts.config) as again:
        analyse_study(again, study, "1")
        assert sorted(again.results.iterdir()) == files
        assert {row.version for row in again.outbox.rows()} == {1, 2}


def test_a_late_image_is_reported_with_the_revision_of_its_study(
    parts: Parts, tmp_path: Path
) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    late = dcmread(STILL)
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    late.save_as(tmp_path / "late.dcm")
    received(parts, tmp_path / "late.dcm")
    analyse_study(parts, study, "2")
    found = {"Study revision 2" in words(report): report for report in reports(parts)}
    assert found[True].SeriesInstanceUID != found[False].SeriesInstanceUID
    assert "PredecessorDocumentsSequence" not in found[True]


def test_a_crash_between_results_and_outbox_leaves_one_set_of_results(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    first = {row.sop_instance_uid for row in parts.outbox.rows()}
    (parts.config.node.data / "outbox.db").unlink()
    with open_parts(parts.config) as again:
        analyse_study(again, study, "1")
        assert {row.sop_instance_uid for row in again.outbox.rows()} == first


def test_a_destination_that_left_the_configuration_makes_dead_letters(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    without = replace(parts, config=parts.config.model_copy(update={"destinations": ()}))
    assert deliver_errand(without, study, "reports", "0")["permanent"] == 1
    [row] = parts.outbox.rows(DeliveryState.DEAD)
    assert "no such destination" in row.reason


@pytest.mark.dimse
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_destination_that_is_down_postpones_and_loses_nothing(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    assert deliver_errand(parts, study, "all", "0")["temporary"] == 2
    waiting = [r for r in parts.outbox.rows(DeliveryState.WAITING) if r.destination == "all"]
    assert [row.attempts for row in waiting] == [1, 1]
    assert all(row.due_at > datetime.now(UTC) for row in waiting)


def test_pixels_that_cannot_be_decoded_are_answered_with_a_report(
    parts: Parts, tmp_path: Path
) -> None:
    ds = dcmread(STILL)
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(tmp_path / "short.dcm")
    study = received(parts, tmp_path / "short.dcm")
    assert analyse_study(parts, study, "1") == {"images": 1, "results": 1, "failures": 2}
    [report] = parts.results.glob("*.dcm")
    assert "111245" in str(dcmread(report))
    assert parts.outbox.trail.rejections(study) == []


def test_a_result_that_fails_the_gate_is_answered_with_a_report_of_failure(
    parts: Parts, tmp_path: Path
) -> None:
    # a meaning of 80 characters: highdicom refuses what the manifest claims
    assert parts.config.bundles is not None
    label = {
        "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical structure"},
        "type": {"value": "10200004", "scheme": "SCT", "meaning": "x" * 80},
    }
    write_bundle(
        parts.config.bundles / "segmentation.onnx",
        Task.SEGMENTATION,
        labels=[label | {"value": 1}],
    )
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    [report] = parts.results.glob("*.dcm")
    assert "111245" in str(dcmread(report))
    [rejection] = parts.outbox.trail.rejections(study)
    assert rejection.reason == "the SR cannot be written (ValueError)"


def test_a_finished_study_is_finished_for_good(parts: Parts) -> None:
    study = received(parts, STILL)
    parts.index.complete(study, reason="test", evidence={}, now=datetime.now(UTC))
    [row] = parts.index.unfinished()
    assert (row.study_instance_uid, row.revision) == (study, 1)
    finish_study(parts, study, "1")
    assert parts.index.unfinished() == []


def test_an_object_that_is_no_ultrasound_is_kept_and_left_alone(
    parts: Parts,
) -> None:
    study = received(parts, Path(str(get_testdata_file("CT_small.dcm"))))
    assert harvest_study(parts, study, "1") == {}
    assert analyse_study(parts, study, "1")["images"] == 0


def test_a_complete_study_s_series_becomes_a_volume_where_its_modality_is_named(
    parts: Parts, tmp_path: Path
) -> None:
    series = write_series(tmp_path, SeriesSpec(seed=1, patient=1, slices=8, rows=16, columns=16))
    for path in series.paths:
        study = received(parts, path)
    harvest = HarvestSettings(modalities=("US", "CT"))
    with open_parts(parts.config.model_copy(update={"harvest": harvest})) as named_ct:
        assert harvest_study(named_ct, study, "1") == {"slices stored": 8}
        assert len(named_ct.harvester.store.volumes.all()) == 1
        assert analyse_study(named_ct, study, "1")["images"] == 0


def with_settings(parts: Parts, **settings: object) -> AbstractContextManager[Parts]:
    """Open the same node with other settings of ``infer``."""
    infer = parts.config.infer.model_copy(update=settings)
    return open_parts(parts.config.model_copy(update={"infer": infer}))


def models_in(report: FileDataset) -> set[str]:
    return {str(item.TextValue) for item in named(report, ALGORITHM_NAME)}


def test_what_a_model_in_the_shadow_says_is_kept_and_owed_to_nobody(parts: Parts) -> None:
    study = received(parts, STILL)
    with with_settings(parts, shadow=("test-quality",)) as shaded:
        assert analyse_study(shaded, study, "1") == {"images": 1, "results": 2, "failures": 0}
        kept = shaded.outbox.shadow_results(study)
        assert [result.kind for result in kept] == [ResultKind.SR]
        assert models_in(dcmread(kept[0].path)) == {"test-quality"}
        sent = {row.sop_instance_uid for row in shaded.outbox.rows()}
        assert kept[0].sop_instance_uid not in sent
        [report] = [
            dcmread(shaded.results / f"{uid}.dcm") for uid in sent if is_report(shaded, uid)
        ]
        assert models_in(report) == {"test-segmentation"}


def is_report(parts: Parts, uid: str) -> bool:
    return str(dcmread(parts.results / f"{uid}.dcm").Modality) == "SR"


def test_the_shadow_runs_once_for_each_image(parts: Parts) -> None:
    study = received(parts, STILL)
    with with_settings(parts, shadow=("test-quality",)) as shaded:
        analyse_study(shaded, study, "1")
        files = sorted(shaded.results.iterdir())
        analyse_study(shaded, study, "1")
        assert sorted(shaded.results.iterdir()) == files


def test_what_was_said_in_the_shadow_is_not_sent_when_it_is_switched_off(parts: Parts) -> None:
    study = received(parts, STILL)
    with with_settings(parts, shadow=("test-quality", "test-segmentation")) as shaded:
        analyse_study(shaded, study, "1")
        in_shadow = {result.sop_instance_uid for result in shaded.outbox.shadow_results(study)}
        assert len(in_shadow) == 2
        assert owed(shaded) == set()
    assert owed(parts) == set()
    # the study opens again: now the models serve, and what they say is another object
    analyse_study(parts, study, "2")
    rows = parts.outbox.rows()
    assert len(rows) == 3
    assert not in_shadow & {row.sop_instance_uid for row in rows}
    assert {row.version for row in rows} == {1}
    assert all(row.supersedes is None for row in rows)


def test_a_second_version_in_the_shadow_changes_nothing_that_is_sent(parts: Parts) -> None:
    study = received(parts, STILL)
    analyse_study(parts, study, "1")
    before = parts.outbox.rows()
    assert parts.config.bundles is not None
    write_bundle(parts.config.bundles / "quality-2.onnx", Task.QUALITY, version="2")
    with with_settings(parts, shadow=("test-quality@2",)) as shaded:
        assert analyse_study(shaded, study, "1")["results"] == 0
        assert shaded.outbox.shadow_count() == 1
        assert shaded.outbox.rows() == before


def test_a_model_that_hangs_in_the_shadow_holds_back_nothing_that_is_owed(parts: Parts) -> None:
    study = received(parts, STILL)
    assert parts.config.bundles is not None
    write_bundle(
        parts.config.bundles / "slow.onnx", Task.QUALITY, name="slow", graph=hangs(HEIGHT, WIDTH)
    )
    with with_settings(parts, shadow=("slow",), timeout_s=5.0) as shaded:
        assert analyse_study(shaded, study, "1") == {"images": 1, "results": 2, "failures": 0}
        [kept] = shaded.outbox.shadow_results(study)
        assert "no answer within 5 s" in words(dcmread(kept.path))


def test_a_model_that_hangs_fails_in_the_report_and_the_others_answer(parts: Parts) -> None:
    study = received(parts, STILL)
    assert parts.config.bundles is not None
    write_bundle(
        parts.config.bundles / "slow.onnx", Task.QUALITY, name="slow", graph=hangs(HEIGHT, WIDTH)
    )
    with with_settings(parts, timeout_s=5.0) as limited:
        assert analyse_study(limited, study, "1") == {"images": 1, "results": 2, "failures": 1}
        [report] = reports(limited)
        assert "slow 1: quality failed: the model gave no answer within 5 s" in words(report)
        assert models_in(report) == {"slow", "test-quality", "test-segmentation"}


def test_the_header_decides_which_models_see_an_image(parts: Parts, tmp_path: Path) -> None:
    study = received(parts, with_its_region(tmp_path / "still.dcm"))
    maker = str(dcmread(STILL).Manufacturer)
    assert parts.config.bundles is not None
    fitting = {"frames": {"max": 1}, "region": "present", "header": {"Manufacturer": [maker]}}
    write_bundle(parts.config.bundles / "quality.onnx", Task.QUALITY, routing=fitting)
    for name, rule in (
        ("cine", {"frames": {"min": 2}}),
        ("other", {"header": {"Manufacturer": ["nobody*"]}}),
    ):
        write_bundle(parts.config.bundles / f"{name}.onnx", Task.QUALITY, name=name, routing=rule)
    analyse_study(parts, study, "1")
    [report] = reports(parts)
    assert models_in(report) == {"test-quality", "test-segmentation"}


def test_the_rule_of_the_site_takes_the_place_of_the_manifests(parts: Parts) -> None:
    study = received(parts, STILL)
    with with_settings(parts, routes={"test-quality": {"frames": {"min": 2}}}) as rerouted:
        analyse_study(rerouted, study, "1")
        [report] = reports(rerouted)
        assert models_in(report) == {"test-segmentation"}


def test_a_refused_bundle_is_told_once_and_harms_no_other(
    parts: Parts,
) -> None:
    assert parts.config.bundles is not None
    write_bundle(parts.config.bundles / "future.onnx", Task.QUALITY, name="future", opset=99)
    study = received(parts, STILL)
    with capture_logs() as logs:
        assert analyse_study(parts, study, "1")["results"] == 2
        analyse_study(parts, study, "1")
    [said] = [line for line in logs if line["event"] == "bundle refused"]
    assert said["reason"].startswith("future.onnx: is of opset 99")

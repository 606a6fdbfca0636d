import hashlib
import resource
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.bundle import Bundle
from dicom_node.infer import analyse
from dicom_node.infer.analyse import MOST_FRAMES, frames_to_analyse, ordinal_score
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import Instance, Task

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.support.bundles import write_bundle
from tests.support.frames import with_its_region


@pytest.fixture(scope="module")
def sandbox() -> Iterator[PixelSandbox]:
    with PixelSandbox(memory_mib=768, timeout_s=60) as decoder:
        yield decoder


def real(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def instance(path: Path) -> Instance:
    ds = dcmread(path, stop_before_pixels=True, force=True)
    content = path.read_bytes()
    return Instance(
        sop_instance_uid=str(ds.get("SOPInstanceUID", "1.2.3")),
        sop_class_uid=str(ds.get("SOPClassUID", "1.2.840.10008.5.1.4.1.1.6.1")),
        series_instance_uid=str(ds.get("SeriesInstanceUID", "1.2.4")),
        study_instance_uid=str(ds.get("StudyInstanceUID", "1.2.5")),
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        file_id="0" * 24,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        received_at=datetime.now(UTC),
    )


def test_a_still_gets_labels_in_source_pixels_inside_its_region(
    tmp_path: Path, sandbox: PixelSandbox
) -> None:
    path = with_its_region(tmp_path / "a.dcm")
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION))
    found = analyse(instance(path), [bundle], sandbox=sandbox)
    [segmentation] = found.segmentations
    facts = read_facts(path)
    assert segmentation.label_map.shape == (1, facts.rows, facts.columns)
    assert set(np.unique(segmentation.label_map)) == {0, 1}
    assert facts.region is not None
    outside = segmentation.label_map[0].copy()
    outside[facts.region.slices] = 0
    assert not outside.any(), "nothing may be said outside the scanned region"


def test_bright_pixels_are_found_where_they_are(tmp_path: Path, sandbox: PixelSandbox) -> None:
    path = with_its_region(tmp_path / "a.dcm")
    facts = read_facts(path)
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION, height=256, width=384))
    [segmentation] = analyse(instance(path), [bundle], sandbox=sandbox).segmentations
    [(_, frame)] = sandbox.frames(path, [1])
    assert facts.region is not None
    inside = segmentation.label_map[0][facts.region.slices] == 1
    bright = frame[facts.region.slices] > 127
    overlap = 2 * (inside & bright).sum() / (inside.sum() + bright.sum())
    assert overlap > 0.8


def test_a_picture_that_is_smaller_than_its_header_says_is_seen_whole(
    tmp_path: Path, sandbox: PixelSandbox
) -> None:
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION, height=240, width=320))
    path = real("examples_ybr_color.dcm")
    stated = dcmread(path).SequenceOfUltrasoundRegions[0]
    found = analyse(instance(path), [bundle], sandbox=sandbox)
    [segmentation] = found.segmentations
    # the model finds what is bright, also left of where the header has the region
    assert segmentation.label_map[:, :, : stated.RegionLocationMinX0].any()
    assert (found.facts.region, found.facts.spacing_mm) == (None, None)


def test_every_frame_of_a_cine_is_scored(tmp_path: Path, sandbox: PixelSandbox) -> None:
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.QUALITY))
    [quality] = analyse(
        instance(real("examples_ybr_color.dcm")), [bundle], sandbox=sandbox
    ).qualities
    assert [score.frame for score in quality.scores] == list(range(1, 31))


def test_the_manifest_may_ask_for_every_nth_frame(tmp_path: Path, sandbox: PixelSandbox) -> None:
    every = Bundle(write_bundle(tmp_path / "a.onnx", Task.QUALITY))
    tenth = Bundle(write_bundle(tmp_path / "b.onnx", Task.SEGMENTATION, every_nth_frame=10))
    found = analyse(instance(real("examples_ybr_color.dcm")), [every, tenth], sandbox=sandbox)
    assert found.segmentations[0].frames == (1, 11, 21)
    assert len(found.qualities[0].scores) == 30


def test_specks_below_the_least_area_are_cleared(tmp_path: Path, sandbox: PixelSandbox) -> None:
    bundle = Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION, min_area_fraction=0.99))
    [segmentation] = analyse(
        instance(real("examples_palette.dcm")), [bundle], sandbox=sandbox
    ).segmentations
    assert segmentation.is_empty


def test_pixels_that_cannot_be_decoded_fail_every_model_with_a_reason(
    tmp_path: Path, sandbox: PixelSandbox
) -> None:
    ds = dcmread(real("examples_palette.dcm"))
    ds.PixelData = ds.PixelData[:1000]
    broken = tmp_path / "broken.dcm"
    ds.save_as(broken)
    bundles = [
        Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION)),
        Bundle(write_bundle(tmp_path / "b.onnx", Task.QUALITY)),
    ]
    found = analyse(instance(broken), bundles, sandbox=sandbox)
    assert (found.segmentations, found.qualities) == ((), ())
    assert [failure.task for failure in found.failures] == [Task.SEGMENTATION, Task.QUALITY]
    assert all(failure.reason for failure in found.failures)


def test_a_header_that_promises_a_thousand_million_frames_costs_nothing(
    tmp_path: Path, sandbox: PixelSandbox
) -> None:
    ds = dcmread(real("examples_palette.dcm"))
    ds.NumberOfFrames = 999_999_999
    ds.save_as(tmp_path / "frames.dcm")
    bundle = Bundle(write_bundle(tmp_path / "q.onnx", Task.QUALITY))
    tracemalloc.start()
    found = analyse(instance(tmp_path / "frames.dcm"), [bundle], sandbox=sandbox)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "999999999" in found.failures[0].reason
    assert peak_bytes < 16 * 2**20


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # a node's processes silence them
def test_every_malformed_file_gets_an_answer_or_a_reason(
    tmp_path: Path, test_data: Path, sandbox: PixelSandbox
) -> None:
    bundles = [
        Bundle(write_bundle(tmp_path / "a.onnx", Task.SEGMENTATION)),
        Bundle(write_bundle(tmp_path / "b.onnx", Task.QUALITY)),
    ]
    some = instance(real("examples_palette.dcm"))
    peak_before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted((test_data / "dicom_bad").glob("*.dcm")):
        found = analyse(replace(some, path=path), bundles, sandbox=sandbox)
        spoke = len(found.segmentations) + len(found.qualities)
        assert spoke + len(found.failures) == len(bundles), path.name
        assert all(failure.reason for failure in found.failures), path.name
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_kib - peak_before_kib < 512 * 1024


def test_a_very_long_cine_is_thinned_out_evenly(tmp_path: Path) -> None:
    facts = read_facts(real("examples_palette.dcm"))
    bundle = Bundle(write_bundle(tmp_path / "q.onnx", Task.QUALITY))
    frames = frames_to_analyse(bundle, replace(facts, number_of_frames=9_000), 1)
    assert len(frames) <= MOST_FRAMES
    assert frames == range(1, 9_001, 5)


@pytest.mark.parametrize(
    ("probabilities", "score", "probability"),
    [
        ([0.9, 0.8, 0.3, 0.1], 2, 0.5),
        ([0.1, 0.1, 0.1, 0.1], 0, 0.9),
        ([1.0, 1.0, 1.0, 1.0], 4, 1.0),
        ([0.2, 0.9, 0.9, 0.9], 0, 0.8),  # not monotone: leading bits decide
    ],
)
def test_the_score_counts_leading_probabilities_above_one_half(
    probabilities: list[float], score: int, probability: float
) -> None:
    found = ordinal_score(7, np.array(probabilities, np.float32))
    assert (found.frame, found.score) == (7, score)
    assert found.probability == pytest.approx(probability)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_gives_no_score(value: float) -> None:
    found = ordinal_score(7, np.array([0.9, value, 0.1, 0.1], np.float32))
    assert (found.frame, found.score, found.probability) == (7, None, None)

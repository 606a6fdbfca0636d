import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.phantom.probes import PROBES
from dicom_node.phantom.study import StudySpec, ViewSpec, cohort, write_study

SPEC = StudySpec(seed=4, patient=2, views=(ViewSpec(quality=4), ViewSpec(quality=2, frames=3)))


def test_files_hold_the_frames_that_are_returned(tmp_path: Path) -> None:
    for instance in write_study(tmp_path, SPEC):
        ds = dcmread(instance.path)
        assert np.array_equal(ds.pixel_array.reshape(instance.frames.shape), instance.frames)
        assert instance.sop_instance_uid == ds.SOPInstanceUID
        assert instance.label_maps.shape == instance.frames.shape


def test_stills_and_cines_have_their_own_sop_class(tmp_path: Path) -> None:
    still, cine = (dcmread(instance.path) for instance in write_study(tmp_path, SPEC))
    assert still.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
    assert "NumberOfFrames" not in still
    assert cine.SOPClassUID == "1.2.840.10008.5.1.4.1.1.3.1"
    assert cine.NumberOfFrames == 3
    assert still.StudyInstanceUID == cine.StudyInstanceUID
    assert still.SeriesInstanceUID == cine.SeriesInstanceUID


def test_equal_specs_give_equal_bytes_and_another_patient_other_uids(tmp_path: Path) -> None:
    once, twice = write_study(tmp_path / "a", SPEC), write_study(tmp_path / "b", SPEC)
    assert [i.path.read_bytes() for i in once] == [i.path.read_bytes() for i in twice]
    other = write_study(tmp_path / "c", StudySpec(seed=4, patient=3, views=SPEC.views))
    assert not {i.sop_instance_uid for i in once} & {i.sop_instance_uid for i in other}
    assert once[0].study_instance_uid != other[0].study_instance_uid


def test_the_header_calls_itself_a_phantom_and_leaves_the_banner_outside(tmp_path: Path) -> None:
    ds = dcmread(write_study(tmp_path, SPEC)[0].path)
    assert str(ds.PatientName).startswith("PHANTOM^")
    region = ds.SequenceOfUltrasoundRegions[0]
    assert region.RegionLocationMinY0 > 34  # the banner's last row
    assert region.RegionLocationMaxX1 < ds.Columns
    assert region.PhysicalUnitsXDirection == 3
    height_cm = (
        region.RegionLocationMaxY1 - region.RegionLocationMinY0 + 1
    ) * region.PhysicalDeltaY
    assert 15 < height_cm < 17  # 15 cm deep, and the curve of the probe's face


def test_a_cohort_holds_both_geometries_all_qualities_and_many_makers() -> None:
    specs = cohort(seed=0, patients=12, cine_frames=5)
    assert {PROBES[spec.probe].geometry for spec in specs} == {"curvilinear", "linear"}
    assert len({PROBES[spec.probe].manufacturer for spec in specs}) >= 3
    assert {view.quality for spec in specs for view in spec.views} == {0, 1, 2, 3, 4}
    assert sum(view.frames == 5 for spec in specs for view in spec.views) == 10


@pytest.mark.peers
def test_dciodvfy_finds_no_error(tmp_path: Path, needs_program: Callable[[str], str]) -> None:
    program = needs_program("dciodvfy")
    for number, probe in enumerate(PROBES):
        spec = StudySpec(seed=1, patient=number, views=SPEC.views, probe=probe)
        for instance in write_study(tmp_path, spec):
            done = subprocess.run(
                [program, str(instance.path)], capture_output=True, text=True, check=False
            )
            assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]
            assert "US" in done.stdout + done.stderr

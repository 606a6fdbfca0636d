from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.errors import PermanentError
from dicom_node.harvest.volumes.labelling import labels_of
from dicom_node.harvest.volumes.slices import Slice, read_slice
from dicom_node.phantom.series import PARTS, SeriesSpec, plan, write_series
from tests.support.frames import instance_of


def test_headers_say_what_the_phantom_shows(tmp_path: Path) -> None:
    for spec in plan(seed=3, patients=10, slices=3, size=8):
        series = write_series(tmp_path, spec)
        slices = [read_slice(instance_of(path)) for path in series.paths]
        read = [one for one in slices if isinstance(one, Slice)]
        assert len(read) == len(series.paths)
        labels = labels_of(read, spacing_mm=series.spacing_mm, extent_mm=1000.0)
        assert (labels.sequence, labels.plane) == (spec.sequence, spec.plane)
        assert (labels.contrast, labels.regions) == (spec.contrast, series.regions)


def test_equal_specs_give_equal_files_and_patients_differ(tmp_path: Path) -> None:
    spec = SeriesSpec(seed=1, patient=1, slices=4, rows=16, columns=16)
    one, again = (write_series(tmp_path / name, spec) for name in "ab")
    assert [p.read_bytes() for p in one.paths] == [p.read_bytes() for p in again.paths]
    other = write_series(tmp_path / "c", SeriesSpec(**{**vars(spec), "patient": 2}))
    assert not np.array_equal(one.tissues, other.tissues)


def _enhanced(folder: Path, sequence: str, part: str) -> float:
    """Return the part of the pixels that contrast agent brightens by a tenth of the range."""
    pixels = []
    for contrast in (False, True):
        spec = SeriesSpec(seed=1, patient=1, sequence=sequence, part=part, contrast=contrast)
        series = write_series(folder, spec)
        pixels.append([dcmread(path).pixel_array.astype(float) for path in series.paths])
    # CT: Hounsfield units, of the window's 1000; MR: brightness, of some 1000
    return float((np.subtract(*pixels[::-1]) > 100).mean())


@pytest.mark.parametrize("part", PARTS)
def test_contrast_agent_shows_in_each_part_on_ct_and_t1_and_not_on_t2(
    part: str, tmp_path: Path
) -> None:
    t1, t2 = ("T1-FLAIR", "T2-FLAIR") if part == "BRAIN" else ("T1-SE", "T2-SE")
    assert _enhanced(tmp_path, "CT", part) > 0.001
    assert _enhanced(tmp_path, t1, part) > 0.001
    assert _enhanced(tmp_path, t2, part) == 0


def test_slices_are_further_apart_than_they_are_thick(tmp_path: Path) -> None:
    series = write_series(tmp_path, SeriesSpec(seed=1, patient=1, slices=3, rows=8, columns=8))
    first, second = (dcmread(path) for path in series.paths[:2])
    step = second.ImagePositionPatient[2] - first.ImagePositionPatient[2]
    assert step == pytest.approx(series.spacing_mm, rel=1e-4)
    assert first.SliceThickness < 0.8 * step


def test_what_phantoms_do_not_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="not what phantoms show"):
        write_series(tmp_path, SeriesSpec(seed=1, patient=1, part="FOOT"))
    assert "BRAIN" in PARTS

from typing import Any

import numpy as np
import pytest

from dicom_node.harvest.volumes.assembling import Stack, assembled
from dicom_node.harvest.volumes.resampling import Canvas, Plane, needed, values_of, voxels_of
from dicom_node.store.volumes import SHAPE
from tests.support.slices import CORONAL, magnetic, read


def _stack(count: int = 12, **fields: Any) -> Stack:
    found = assembled([read(number, **fields) for number in range(count)])
    assert isinstance(found, Stack)
    return found


def _drawn(stack: Stack, values: np.ndarray, number: int = 0) -> Plane:
    return Canvas(stack).drawn(number, values.astype(np.float32))


def _box(plane: Plane) -> tuple[int, int]:
    """Return height and width of what was drawn."""
    seen = np.isfinite(plane)
    return int(seen.any(axis=1).sum()), int(seen.any(axis=0).sum())


def test_pixels_that_are_not_square_become_square() -> None:
    stack = _stack(PixelSpacing=[1, 2])
    assert Canvas(stack).spacing_mm == pytest.approx(128 / 192)
    assert _box(_drawn(stack, np.ones((64, 64)))) == (96, 192)


def test_the_scale_is_the_same_along_rows_and_columns() -> None:
    stack = _stack(Rows=32, Columns=64)
    assert _box(_drawn(stack, np.ones((32, 64)))) == (96, 192)


def test_small_bright_things_are_averaged_and_not_lost() -> None:
    stack = _stack(Rows=768, Columns=768, PixelSpacing=[0.5, 0.5])
    values = np.zeros((768, 768))
    values[384, 384] = 16
    assert _drawn(stack, values).sum() == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        ([1, 0, 0, 0, 1, 0], (0, 0)),
        ([-1, 0, 0, 0, 1, 0], (0, -1)),
        ([1, 0, 0, 0, -1, 0], (-1, 0)),
        ([0, 1, 0, 1, 0, 0], (0, 0)),
        ([0, -1, 0, 1, 0, 0], (-1, 0)),
        (CORONAL, (0, 0)),
        ([1, 0, 0, 0, 0, 1], (-1, 0)),
    ],
)
def test_views_are_turned_as_they_are_read(
    orientation: list[float], corner: tuple[int, int]
) -> None:
    """The first pixel lies at the front right of a patient, or at his right top."""
    normal = np.cross(orientation[:3], orientation[3:])
    found = assembled(
        [
            read(ImageOrientationPatient=orientation, ImagePositionPatient=list(5 * n * normal))
            for n in range(12)
        ]
    )
    assert isinstance(found, Stack)
    values = np.zeros((64, 64))
    values[:8, :16] = 1  # long along the row
    plane = _drawn(found, values)
    assert plane[corner] == 1
    row = np.abs(np.array(orientation[:3])).argmax()
    is_swapped = row > np.abs(np.array(orientation[3:])).argmax()
    along = np.unique(np.argwhere(plane > 0.9)[:, 0]).size
    assert (along > 30) is bool(is_swapped)


def test_a_tilt_is_straightened() -> None:
    found = assembled([read(ImagePositionPatient=[0, 2 * n, 5 * n]) for n in range(12)])
    assert isinstance(found, Stack)
    canvas = Canvas(found)
    values = np.zeros((64, 64), np.float32)
    tops = []
    for number in range(12):
        values[:] = 0
        values[40 - number, :] = 1  # 2 mm a pixel: the same place in the patient
        tops.append(int(np.nanargmax(canvas.drawn(number, values)[:, 96])))
    assert max(tops) - min(tops) <= 1


def test_ct_is_windowed_from_hounsfield_units() -> None:
    stack = _stack()
    stored = np.array([[524, 1024, 1524, 3000]], np.int32)
    values = values_of(stack.slices[0], stored)
    assert values.tolist() == [[-500, 0, 500, 1976]]
    planes = {n: np.resize(values, SHAPE[1:]).astype(np.float32) for n in range(12)}
    voxels = voxels_of(planes, 12, "CT")
    assert voxels is not None
    assert voxels[3, 0, :4].tolist() == [0, 128, 255, 255]


def test_mr_is_stretched_between_its_percentiles_and_inverted_where_small_is_bright() -> None:
    planes = {
        n: np.linspace(0, 1000, SHAPE[1] * SHAPE[2], dtype=np.float32).reshape(SHAPE[1:])
        for n in range(12)
    }
    planes[3][0, 0] = 1e6  # one hot voxel does not darken the rest
    planes[3][1, :] = np.nan
    voxels = voxels_of(planes, 12, "MR")
    assert voxels is not None
    assert 120 < voxels[:, 96].mean() < 135
    assert voxels[0, -1, -1] == 255
    assert voxels[12, 1].max() < 5
    inverted = magnetic(PhotometricInterpretation="MONOCHROME1")
    assert values_of(inverted, np.array([[5]], np.int32)).item() == -5


def test_one_grey_all_over_is_no_volume() -> None:
    for modality in ("CT", "MR"):
        planes = dict.fromkeys(range(12), np.full(SHAPE[1:], 7, np.float32))
        assert voxels_of(planes, 12, modality) is None


@pytest.mark.parametrize("count", [8, 48, 300])
def test_the_whole_extent_is_stretched_over_the_volume(count: int) -> None:
    mixed = needed(count)
    assert len(mixed) == SHAPE[0]
    assert mixed[0] == (0, 1, 0.0)
    below, above, part = mixed[-1]
    assert below + part == count - 1
    assert above == count - 1
    assert len({at for one in mixed for at in one[:2]}) <= min(count, 2 * SHAPE[0])

import numpy as np
import pytest

from dicom_node.pixels.geometry import to_network, to_source
from dicom_node.records import Box


def _one_hot(labels: np.ndarray, channels: int) -> np.ndarray:
    return np.stack([labels == value for value in range(channels)]).astype(np.float32)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 3, (24, 36), dtype=np.uint8)


def test_a_region_of_the_networks_size_passes_unchanged(labels: np.ndarray) -> None:
    frame = np.zeros((50, 60), np.uint8)
    region = Box(left=11, top=5, right=11 + 36, bottom=5 + 24)
    frame[region.slices] = labels
    assert np.array_equal(to_network(frame, region, height=24, width=36), labels)
    back = to_source(_one_hot(labels, 3), region, rows=50, columns=60)
    assert np.array_equal(back, frame)


@pytest.mark.parametrize("scale", [2, 2.25, 3, 5.5])
def test_labels_survive_the_way_to_a_larger_region_and_back(
    labels: np.ndarray, scale: float
) -> None:
    height, width = int(24 * scale), int(36 * scale)
    region = Box(left=3, top=7, right=3 + width, bottom=7 + height)
    source = to_source(_one_hot(labels, 3), region, rows=height + 20, columns=width + 10)
    back = to_network(source, region, height=24, width=36, nearest=True)
    assert np.array_equal(back, labels)


def test_nothing_is_labelled_outside_the_region() -> None:
    region = Box(left=10, top=20, right=40, bottom=50)
    source = to_source(_one_hot(np.ones((8, 8), np.uint8), 2), region, rows=64, columns=80)
    assert source[region.slices].all()
    source[region.slices] = 0
    assert not source.any()


def test_pixels_outside_the_region_do_not_reach_the_network() -> None:
    frame = np.full((100, 100), 255, np.uint8)
    region = Box(left=30, top=30, right=70, bottom=80)
    frame[region.slices] = 9
    assert (to_network(frame, region, height=16, width=16) == 9).all()


def test_equal_probabilities_give_the_lower_label() -> None:
    even = np.full((3, 4, 4), 1 / 3, np.float32)
    assert not to_source(even, None, rows=8, columns=8).any()


def test_without_a_region_the_whole_frame_is_meant() -> None:
    frame = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(to_network(frame, None, height=8, width=8), frame)


@pytest.mark.parametrize(
    "region",
    [
        Box(left=0, top=0, right=11, bottom=10),
        Box(left=-1, top=0, right=5, bottom=5),
        Box(left=4, top=4, right=4, bottom=8),
    ],
)
def test_a_region_that_leaves_the_frame_is_refused(region: Box) -> None:
    with pytest.raises(ValueError, match="no part of an image"):
        to_network(np.zeros((10, 10), np.uint8), region, height=4, width=4)

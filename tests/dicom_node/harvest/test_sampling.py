import numpy as np
import pytest

from dicom_node.harvest.sampling import BLOCK, NEAR_GREY, hardly_differ, sampled


def _sample(frames: int, frame_time_s: float | None, most: int = 30) -> list[int]:
    return sampled(frames, frame_time_s=frame_time_s, frames_per_s=3, most_frames=most)


def test_a_still_is_its_only_frame() -> None:
    assert _sample(1, None) == [1]


def test_three_frames_are_kept_of_a_second() -> None:
    assert _sample(30, 1 / 30) == [1, 11, 21]
    assert _sample(31, 1 / 30) == [1, 11, 21, 31]


def test_a_cine_slower_than_the_sampling_is_kept_whole() -> None:
    assert _sample(10, 0.5) == list(range(1, 11))


def test_a_long_cine_is_thinned_out_over_all_its_length() -> None:
    found = _sample(3000, 1 / 30)
    assert len(found) == 30
    assert (found[0], found[-1]) == (1, 2901)


def test_without_a_frame_time_only_the_limit_counts() -> None:
    assert _sample(8, None) == list(range(1, 9))
    assert _sample(60, None) == list(range(1, 61, 2))


@pytest.mark.parametrize("frames", [1, 2, 7, 29, 30, 31, 97, 1000, 999_999_999])
@pytest.mark.parametrize("frame_time_s", [None, 0.001, 0.033333, 0.04, 0.5])
@pytest.mark.parametrize("most", [1, 7, 30])
def test_samples_are_ascending_inside_the_cine_and_not_too_many(
    frames: int, frame_time_s: float | None, most: int
) -> None:
    found = _sample(frames, frame_time_s, most)
    assert found == sorted(set(found))
    assert found[0] == 1
    assert found[-1] <= frames
    assert 1 <= len(found) <= most


def test_noise_alone_does_not_tell_frames_apart_and_one_block_that_changed_does() -> None:
    frame = np.full((100, 150), 100, np.uint8)
    noise = np.random.default_rng(0).integers(-4, 5, frame.shape)
    assert hardly_differ(frame, (frame + noise).astype(np.uint8))
    for rows, columns in ((slice(0, BLOCK), slice(0, BLOCK)), (slice(96, 100), slice(128, 150))):
        changed = frame.copy()
        changed[rows, columns] -= int(NEAR_GREY)
        assert hardly_differ(frame, changed)
        changed[rows, columns] -= 1
        assert not hardly_differ(frame, changed)


def test_frames_of_other_sizes_differ() -> None:
    frame = np.zeros((40, 60), np.uint8)
    assert not hardly_differ(frame, frame[:, :50])

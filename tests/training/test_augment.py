import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.augment import LARGEST_SHIFT, apply, draw

SIZE = (20, 30)


def pictures(count: int) -> NDArray[np.uint8]:
    """Return pictures without a 0, (count, 1, 20, 30)."""
    return np.random.default_rng(7).integers(1, 256, (count, 1, *SIZE), dtype=np.uint8)


def slow(picture: NDArray[np.uint8], flip: int, down: int, right: int) -> NDArray[np.uint8]:
    """Move pixel by pixel."""
    rows, columns = picture.shape
    out = np.zeros_like(picture)
    for row in range(rows):
        for column in range(columns):
            to_column = (columns - 1 - column if flip else column) + right
            if 0 <= row + down < rows and 0 <= to_column < columns:
                out[row + down, to_column] = picture[row, column]
    return out


def test_a_batch_changes_as_a_slow_loop_over_frames_and_pixels_says() -> None:
    before, changes = pictures(16), draw(16, SIZE, np.random.default_rng(3))
    changes[0] = 0
    changes[1] = 1, *(-size for size in SIZE)  # all of it leaves
    after = apply(torch.from_numpy(before), torch.from_numpy(changes)).numpy()
    for old, change, new in zip(before, changes, after, strict=True):
        assert np.array_equal(new[0], slow(old[0], *change))
    assert np.array_equal(after[0], before[0])
    assert not after[1].any()


def test_channels_and_types_stay() -> None:
    changes = torch.from_numpy(draw(4, SIZE, np.random.default_rng(3)))
    frame = torch.from_numpy(pictures(4))
    both = apply(torch.cat((frame, frame // 100), dim=1), changes)
    assert both.shape == (4, 2, *SIZE)
    assert torch.equal(both[:, 0] // 100, both[:, 1])
    assert apply(frame.float(), changes).dtype == torch.float32
    assert both.dtype == torch.uint8


def test_half_are_flipped_and_shifts_fill_their_range_in_both_directions() -> None:
    flip, down, right = draw(4000, (100, 200), np.random.default_rng(0)).T
    assert flip.mean() == pytest.approx(0.5, abs=0.05)
    for shift, size in ((down, 100), (right, 200)):
        assert (shift.min(), shift.max()) == (-LARGEST_SHIFT * size, LARGEST_SHIFT * size)
        assert shift.mean() == pytest.approx(0, abs=0.02 * size)


def test_the_same_state_draws_the_same_and_another_draws_otherwise() -> None:
    one, same, other = (draw(8, SIZE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)

import numpy as np

from training.augment import LARGEST_SHIFT, augment

PICTURE = np.arange(1, 20 * 30 + 1).reshape(20, 30).astype(np.uint8) | 1


def test_frame_and_mask_change_alike() -> None:
    for seed in range(20):
        frame, mask = augment(PICTURE, PICTURE.copy(), np.random.default_rng(seed))
        assert mask is not None
        assert np.array_equal(frame, mask)


def test_the_same_generator_state_gives_the_same_change_and_seeds_differ() -> None:
    changes = [augment(PICTURE, None, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert np.array_equal(changes[0], changes[1])
    assert not np.array_equal(changes[0], changes[2])


def test_shifts_stay_within_their_limit_and_flips_occur() -> None:
    lost = []
    flipped = 0
    for seed in range(200):
        frame, _ = augment(PICTURE, None, np.random.default_rng(seed))
        lost.append(((frame == 0).all(axis=1).sum() / 20, (frame == 0).all(axis=0).sum() / 30))
        filled = frame[np.ix_((frame != 0).any(axis=1), (frame != 0).any(axis=0))]
        flipped += filled[0, 0] > filled[0, -1]
    assert max(max(pair) for pair in lost) <= LARGEST_SHIFT
    assert max(pair[0] for pair in lost) > 0.04
    assert 60 < flipped < 140

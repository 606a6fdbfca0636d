import math

import torch

from training.losses import ordinal_targets
from training.metrics import accuracy, dice, ordinal_decode, quality


def test_decoding_counts_the_leading_bits_alone() -> None:
    bits = torch.tensor(
        [[0.9, 0.8, 0.2, 0.1], [0.9, 0.1, 0.9, 0.9], [0.4, 0.9, 0.9, 0.9], [0.6] * 4]
    )
    assert ordinal_decode(bits).tolist() == [2, 1, 0, 4]


def test_a_bit_of_one_half_does_not_count() -> None:
    assert ordinal_decode(torch.full((1, 4), 0.5)).tolist() == [0]


def test_dice_is_that_of_the_two_sets_of_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(3, 3, 6, 7, generator=rng),
        torch.randint(0, 3, (3, 6, 7), generator=rng),
    )
    answer = dice(logits, labels)
    for n in range(3):
        for organ in (1, 2):
            found = {tuple(at) for at in (logits[n].argmax(0) == organ).nonzero().tolist()}
            truth = {tuple(at) for at in (labels[n] == organ).nonzero().tolist()}
            expected = 2 * len(found & truth) / (len(found) + len(truth))
            assert math.isclose(float(answer[n, organ - 1]), expected, rel_tol=1e-6)


def test_dice_asks_nothing_where_an_organ_is_absent_and_punishes_its_invention() -> None:
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    logits = torch.zeros(2, 3, 4, 4)
    logits[:, 0] = 1.0
    logits[1, 2, 0, 0] = 9.0  # one pixel of kidney in the second frame
    answer = dice(logits, labels)
    assert answer.isnan().tolist() == [[True, True], [True, False]]
    assert float(answer[1, 1]) == 0


def test_quality_is_right_or_off_by_a_distance() -> None:
    logits = torch.tensor([[5.0, 5, -5, -5], [5, 5, 5, 5]])
    assert quality(logits, torch.tensor([2, 1])).tolist() == [[1, 0], [0, 3]]


def test_every_score_survives_encoding_and_decoding() -> None:
    scores = torch.arange(5)
    assert ordinal_decode(ordinal_targets(scores, 4)).tolist() == scores.tolist()


def test_accuracy_is_whether_the_likeliest_class_is_the_right_one() -> None:
    logits = torch.tensor([[0.1, 2.0, 0.3], [5.0, 1.0, 1.0]])
    assert accuracy(logits, torch.tensor([1, 2])).tolist() == [1.0, 0.0]

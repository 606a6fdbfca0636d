import math

import pytest
import torch

from training.losses import ordinal_loss, ordinal_targets, rarity, soft_dice_loss


def certain(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return 50.0 * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_nearly_everything() -> None:
    labels = torch.randint(0, 3, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    assert float(soft_dice_loss(certain(labels), labels)) == pytest.approx(0, abs=1e-4)
    assert float(soft_dice_loss(certain((labels + 1) % 3), labels)) > 0.95


def test_soft_dice_is_what_the_slow_loop_gives() -> None:
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 4, 5, generator=rng)
    labels = torch.randint(0, 3, (2, 4, 5), generator=rng)
    share = []
    for organ in (1, 2):
        both = either = 0.0
        for n in range(2):
            for r in range(4):
                for c in range(5):
                    odds = [math.exp(float(logits[n, k, r, c])) for k in range(3)]
                    found, truth = odds[organ] / sum(odds), float(labels[n, r, c] == organ)
                    both += found * truth
                    either += found + truth
        share.append((2 * both + 1) / (either + 1))
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(1 - sum(share) / 2, rel=1e-5)


def test_an_organ_that_is_nowhere_and_not_found_costs_nothing() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    assert float(soft_dice_loss(certain(labels), labels)) == pytest.approx(0, abs=1e-4)


def test_a_label_of_a_hundredth_weighs_ten_times_the_average() -> None:
    labels = torch.zeros(2, 5, 10, dtype=torch.int64)
    labels[0, 0, 0] = 1
    assert rarity(labels, 3).tolist() == pytest.approx([(100 / 99) ** 0.5, 10, 10])


def test_a_score_becomes_as_many_leading_bits() -> None:
    bits = ordinal_targets(torch.tensor([0, 2, 4]), 4)
    assert bits.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]


def test_ordinal_loss_is_what_the_slow_loop_gives() -> None:
    logits = torch.tensor([[0.3, -1.2, 2.0, 0.0], [1.0, 0.5, -0.5, -2.0]])
    scores = torch.tensor([1, 3])
    total = 0.0
    for row, score in zip(logits.tolist(), scores.tolist(), strict=True):
        for bit, logit in enumerate(row):
            p = 1 / (1 + math.exp(-logit))
            total -= 2.0 * math.log(p) if score > bit else math.log(1 - p)
    assert float(ordinal_loss(logits, scores)) == pytest.approx(total / 8, rel=1e-5)


def test_half_precision_logits_lose_little() -> None:
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 3, 64, 64, generator=rng)
    labels = torch.randint(0, 3, (2, 64, 64), generator=rng)
    whole, half = (float(soft_dice_loss(x, labels)) for x in (logits, logits.bfloat16()))
    assert half == pytest.approx(whole, abs=1e-3)
    bits, scores = torch.randn(8, 4, generator=rng), torch.randint(0, 5, (8,), generator=rng)
    assert float(ordinal_loss(bits.bfloat16(), scores)) == pytest.approx(
        float(ordinal_loss(bits, scores)), abs=1e-2
    )

import math

import pytest
import torch

from training.tags import TAG_BITS, has_tags, known, tag_accuracy, tag_loss, tag_losses

PROBE_ONLY = [1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
GROUPS_ONLY = [0.0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
BOTH = [0.0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
NOTHING = [0.0] * TAG_BITS
Y = torch.tensor([PROBE_ONLY, GROUPS_ONLY, BOTH, NOTHING])


def slow_loss(logits: list[float], y: list[float]) -> float | None:
    """Cross entropy of the bits that are known, in plain Python."""
    bits = []
    for part in (range(2), range(2, TAG_BITS)):
        if any(y[place] for place in part):
            for place in part:
                p = 1 / (1 + math.exp(-logits[place]))
                bits.append(-math.log(p if y[place] else 1 - p))
    return sum(bits) / len(bits) if bits else None


def test_only_bits_of_a_tag_that_was_written_are_known() -> None:
    assert known(Y).sum(dim=1).tolist() == [2, 8, 10, 0]
    assert has_tags(Y).tolist() == [True, True, True, False]


def test_the_loss_is_that_of_a_slow_loop_over_known_bits() -> None:
    logits = torch.linspace(-3, 3, 4 * TAG_BITS).reshape(4, TAG_BITS)
    slow = [slow_loss(*row) for row in zip(logits.tolist(), Y.tolist(), strict=True)]
    assert slow[3] is None
    assert tag_losses(logits, Y).tolist() == pytest.approx([*slow[:3], 0.0], abs=1e-6)
    assert tag_loss(logits, Y).item() == pytest.approx(sum(slow[:3]) / 3, abs=1e-6)


def test_a_frame_without_tags_gives_no_slope() -> None:
    logits = torch.randn(4, TAG_BITS, requires_grad=True)
    tag_loss(logits, Y).backward()
    assert logits.grad is not None
    assert (logits.grad[3] == 0).all()
    assert (logits.grad[2] != 0).all()
    assert (logits.grad[0, 2:] == 0).all()


def test_a_batch_without_any_tags_costs_nothing_and_is_a_number() -> None:
    logits = torch.randn(2, TAG_BITS, requires_grad=True)
    loss = tag_loss(logits, torch.zeros(2, TAG_BITS))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_accuracy_counts_known_bits_alone() -> None:
    found = tag_accuracy(torch.full((4, TAG_BITS), -1.0), Y).tolist()
    assert found[:3] == pytest.approx([1 / 2, 6 / 8, 8 / 10])
    assert math.isnan(found[3])

import math

import pytest
import torch

from training.adversarial import LOSSES

SCORES = [-3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 4.0]


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


#: the formulas of the papers, one score at a time: D on real, D on fake, F
FORMULAS = {
    "hinge": (lambda d: max(0.0, 1 - d), lambda d: max(0.0, 1 + d), lambda d: -d),
    "log": (
        lambda d: -math.log(sigmoid(d)),
        lambda d: -math.log(1 - sigmoid(d)),
        lambda d: math.log(1 - sigmoid(d)),
    ),
}


@pytest.mark.parametrize("side", range(3), ids=["real", "fake", "fooled"])
@pytest.mark.parametrize("name", FORMULAS)
def test_each_side_of_each_loss_is_the_papers_formula(name: str, side: int) -> None:
    found = LOSSES[name][side](torch.tensor(SCORES))
    expected = [FORMULAS[name][side](score) for score in SCORES]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_fooling_more_costs_less_and_being_fooled_costs_more(name: str) -> None:
    real, fake, fooled = LOSSES[name]
    low, high = torch.tensor([-0.5]), torch.tensor([0.5])
    assert fooled(high) < fooled(low)
    assert fake(high) > fake(low)
    assert real(high) < real(low)

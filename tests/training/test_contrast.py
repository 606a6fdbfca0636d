import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("lightly", reason="pip install --group train")

from tests.conftest import REPOSITORY
from training import contrast, runs


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(one: list[float], other: list[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def test_nt_xent_is_the_plain_formula() -> None:
    first, second = drawn(5, 3), drawn(5, 3, seed=1)
    every = [*first.tolist(), *second.tolist()]
    expected = []
    for i, one in enumerate(every):
        powers = [math.exp(cosine(one, other) / 0.5) for other in every]
        own = powers[(i + 5) % 10]
        expected.append(-math.log(own / (sum(powers) - powers[i])))
    found = contrast.nt_xent(first, second, 0.5, shared=False)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_no_pair_has_no_loss_and_a_pair_alone_costs_nothing() -> None:
    assert contrast.nt_xent(drawn(0, 3), drawn(0, 3), 0.5, shared=False).shape == (0,)
    assert contrast.nt_xent(drawn(1, 3), drawn(1, 3, seed=1), 0.5, shared=False).tolist() == [0, 0]


def test_the_loss_against_a_queue_is_the_plain_formula() -> None:
    query, key, queue = (nn.functional.normalize(drawn(n, 3, seed=n), dim=1) for n in (4, 4, 6))
    key = key.flip(0)
    expected = []
    for one, own in zip(query.tolist(), key.tolist(), strict=True):
        negatives = sum(math.exp(cosine(one, other) / 0.2) for other in queue.tolist())
        positive = math.exp(cosine(one, own) / 0.2)
        expected.append(-math.log(positive / (positive + negatives)))
    assert contrast.queued(query, key, queue, 0.2).tolist() == pytest.approx(expected, rel=1e-4)


def test_the_mean_is_over_what_is_known_and_0_without_anything() -> None:
    losses = torch.tensor([1.0, 5.0, 3.0], requires_grad=True)
    known = torch.tensor([True, False, True])
    assert contrast.mean_of_known(losses, known, shared=False).item() == 2
    nothing = contrast.mean_of_known(losses, torch.zeros(3, dtype=torch.bool), shared=False)
    assert nothing.item() == 0
    nothing.backward()
    assert torch.equal(losses.grad, torch.zeros(3))


@pytest.mark.slow
def test_processes_together_have_the_negatives_and_the_gradient_of_one(tmp_path: Path) -> None:
    left = {}
    for world in (1, 2):
        started = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.contrasts"),
                    *map(str, (tmp_path, rank, world)),
                ],
                cwd=REPOSITORY,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for rank in range(world)
        ]
        assert [process.wait(timeout=100) for process in started] == [0] * world
        left[world] = [runs.load_state(tmp_path / f"{rank}-of-{world}.pt") for rank in range(world)]
    [alone], parts = left[1], left[2]
    for name in ("contrast", "label", "gradient"):
        mean = sum(part[name] for part in parts) / 2
        assert torch.allclose(mean, alone[name], rtol=1e-5), name
    assert all(torch.equal(part["first"], alone["first"]) for part in parts)


def test_the_pace_is_constant_and_then_a_cosine_that_ends_above_0() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = contrast.pace(optimizer, epochs=300, steps=2, constant_epochs=10)
    rates = []
    for _ in range(600):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[::2] == rates[1::2]  # a step of an epoch has the rate of the epoch
    assert rates[:22] == [2.0] * 22
    assert rates[2 * 160] == pytest.approx(1.0)  # half way of 300, begun at 10
    assert rates[-1] == pytest.approx(1 + math.cos(math.pi * 289 / 300))
    assert rates[-1] > 0

import math

import pytest
import torch

pytest.importorskip("lightly", reason="pip install --group train")

from tests.support.clips import settings
from training import pretexts
from training.loop import Batch, Networks
from training.pretexts.moco import MoCo


def pretext(**options: float) -> MoCo:
    torch.manual_seed(0)
    built = pretexts.build(settings("moco", **({"queue": 12, "features": 5} | options)))
    assert isinstance(built, MoCo)
    return built


def networks(task: MoCo, *, training: bool = True) -> Networks:
    return {name: player.network.train(training) for name, player in task.players.items()}


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return {"frames": torch.rand(8, 1, 64, 64, generator=generator) * 255}


def test_the_measure_is_each_frame_against_its_key_and_the_queue() -> None:
    task = pretext()
    network = task.players["network"].network.eval()
    query, key = network(batch()["frames"])
    queue = network.queue.tolist()
    expected = []
    for one, own in zip(query.tolist(), key.tolist(), strict=True):
        size, size_own = math.hypot(*one), math.hypot(*own)
        near = sum(a * b for a, b in zip(one, own, strict=True)) / (size * size_own)
        far = [sum(a * b for a, b in zip(one, each, strict=True)) / size for each in queue]
        powers = [math.exp(value / 0.2) for value in (near, *far)]
        expected.append(-math.log(powers[0] / sum(powers)))
    rows = task.measure({"network": network}, batch())
    assert rows[:, 0].tolist() == pytest.approx(expected, rel=1e-4)
    assert network.queue.tolist() == queue


def test_a_step_puts_its_keys_into_the_queue_and_compares_with_older_ones() -> None:
    task, given = pretext(), batch()
    network = task.players["network"].network
    before = network.queue.clone()
    task.loss("network", networks(task), given)["loss"].backward()
    assert not torch.equal(network.queue[:4], before[:4])
    assert torch.equal(network.queue[4:], before[4:])
    assert network.place.item() == 4
    assert torch.allclose(network.queue.norm(dim=1), torch.ones(12), atol=1e-5)


def test_the_key_network_follows_by_the_momentum_and_by_nothing_else() -> None:
    task, given = pretext(momentum=0.75), batch()
    player = task.players["network"]
    network = player.network
    task.loss("network", networks(task), given)["loss"].backward()
    assert all(weight.grad is None for weight in network.key.parameters())
    old = [weight.clone() for weight in network.key.parameters()]
    player.optimizer.step()
    new = [weight.detach().clone() for weight in network.query.parameters()]
    task.loss("network", networks(task), given)
    for was, other, now in zip(old, new, network.key.parameters(), strict=True):
        assert torch.allclose(now, 0.75 * was + 0.25 * other, atol=1e-6)
    assert any(not torch.equal(was, other) for was, other in zip(old, new, strict=True))


def test_the_encoder_that_is_kept_is_the_one_that_learns() -> None:
    task = pretext()
    assert task.encoder is task.players["network"].network.query.encoder
    assert task.measures == ("loss",)

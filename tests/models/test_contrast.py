import torch
from torch import nn

from models import encoders
from models.contrast import ContrastNetwork, MomentumNetwork


def network(**how: bool) -> ContrastNetwork:
    torch.manual_seed(0)
    width = 6 if how.get("of_projection") else 16
    encoder = encoders.build("small", width=2)
    return ContrastNetwork(encoder, nn.Linear(16, 6), nn.Linear(width, 3), **how)


def pictures(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 255


def test_the_classifier_reads_pooled_features_or_the_projection() -> None:
    for of_projection in (False, True):
        made = network(of_projection=of_projection).eval()
        projected, logits = made(pictures())
        assert projected.shape == (4, 6)
        with torch.no_grad():
            made.projection.weight.zero_()
            made.projection.bias.zero_()
        assert torch.equal(made(pictures())[1], logits) is not of_projection


def test_without_a_classifier_there_are_no_logits() -> None:
    made = ContrastNetwork(encoders.build("small", width=2), nn.Linear(16, 6))
    assert made(pictures())[1] is None


def test_halves_are_normalised_apart_where_it_is_asked_for() -> None:
    bright = pictures()
    bright[2:, :, ::2] = 255
    alone = network(apart=True)(bright[:2].repeat(2, 1, 1, 1))[0][:2]
    assert torch.allclose(network(apart=True)(bright)[0][:2], alone, atol=1e-5)
    assert not torch.allclose(network()(bright)[0][:2], alone, atol=1e-3)


def test_the_key_network_takes_no_gradient_and_begins_as_the_other() -> None:
    query, key = network(), network()
    with torch.no_grad():
        key.projection.weight.zero_()
    both = MomentumNetwork(query, key, features=6, length=8)
    first, second = both.eval()(pictures(2).repeat(2, 1, 1, 1))
    assert torch.allclose(first, second)
    assert first.requires_grad
    assert not second.requires_grad
    assert all(weight.requires_grad for weight in query.parameters())


def test_the_queue_forgets_the_oldest_first() -> None:
    both = MomentumNetwork(network(), network(), features=2, length=5)
    keys = torch.arange(14.0).reshape(7, 2)
    both.remember(keys[:3])
    assert torch.equal(both.queue[:3], keys[:3])
    both.remember(keys[3:])
    assert torch.equal(both.queue, keys[[5, 6, 2, 3, 4]])
    both.remember(torch.arange(20.0, 34.0).reshape(7, 2))  # more than it holds
    assert sorted(both.queue[:, 0].tolist()) == [24, 26, 28, 30, 32]


def test_the_queue_travels_with_the_weights() -> None:
    one, other = (MomentumNetwork(network(), network(), features=2, length=5) for _ in range(2))
    one.remember(torch.ones(3, 2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.queue, one.queue)
    assert other.place.item() == 3

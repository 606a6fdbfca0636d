import pytest
import torch
from torch import Tensor

from models.discriminator import ProjectionDiscriminator

TAGS = 10


@pytest.fixture
def discriminator() -> ProjectionDiscriminator:
    """In evaluation mode, and with C and W large enough for differences to show."""
    torch.manual_seed(0)
    network = ProjectionDiscriminator(TAGS).eval()
    assert network.embed is not None
    torch.nn.init.normal_(network.score.weight)
    torch.nn.init.normal_(network.score.bias)
    torch.nn.init.normal_(network.embed.weight)
    return network


def patches(count: int = 3) -> Tensor:
    return torch.randn(count, 1, 32, 48, generator=torch.Generator().manual_seed(1))


def tags(*rows: tuple[int, ...]) -> Tensor:
    """One row a patch, 1 at the given places."""
    y = torch.zeros(len(rows), TAGS)
    for row, places in enumerate(rows):
        y[row, list(places)] = 1
    return y


def by_the_formula(network: ProjectionDiscriminator, patch: Tensor, y: Tensor) -> list[float]:
    """D(x, y) = C(D~(x)) + D~(x)^T W y, number by number."""
    assert network.embed is not None
    maps = network.blocks(patch).double()
    score, bias = network.score.weight.double(), float(network.score.bias)
    w = network.embed.weight.double()  # (512, tags)
    answers = []
    for image, tag in zip(maps, y.double(), strict=True):
        hidden = [sum(float(cell) for row in channel for cell in row) for channel in image]
        answer = bias
        for k, value in enumerate(hidden):
            answer += value * float(score[0, k])
            for j in range(TAGS):
                answer += value * float(w[k, j]) * float(tag[j])
        answers.append(answer)
    return answers


def test_it_gives_what_the_formula_gives(discriminator: ProjectionDiscriminator) -> None:
    y = tags((0,), (1, 4, 7), ())
    with torch.no_grad():
        answer = discriminator(patches(), y)
        expected = torch.tensor(by_the_formula(discriminator, patches(), y))
    assert answer.shape == (3,)
    assert expected.abs().min() > 0.1
    assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-4)


def test_without_tags_only_c_speaks(discriminator: ProjectionDiscriminator) -> None:
    with torch.no_grad():
        hidden = discriminator.blocks(patches()).sum(dim=(2, 3))
        plain = discriminator.score(hidden)[:, 0]
        assert torch.equal(discriminator(patches(), tags((), (), ())), plain)
        assert torch.equal(discriminator(patches(), None), plain)
        assert not torch.allclose(discriminator(patches(), tags((), (3,), ()))[1], plain[1])


def test_the_projections_of_two_groups_add_up(discriminator: ProjectionDiscriminator) -> None:
    def projection(*places: int) -> Tensor:
        answer = discriminator(patches(1), tags(places)) - discriminator(patches(1), None)
        return answer.detach()

    both = projection(2, 5)
    assert torch.allclose(both, projection(2) + projection(5), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(both, projection(2), rtol=1e-2)


def test_a_discriminator_without_tags_leaves_y_unread() -> None:
    torch.manual_seed(0)
    network = ProjectionDiscriminator().eval()
    assert torch.equal(network(patches(), tags((1,), (2,), (3,))), network(patches()))
    assert not any("embed" in key for key in network.state_dict())


def test_y_reaches_w_and_the_blocks_through_the_gradient() -> None:
    torch.manual_seed(0)
    network = ProjectionDiscriminator(TAGS)
    network(patches(), tags((0,), (0, 6), ())).sum().backward()
    assert network.embed is not None
    gradient = network.embed.weight.grad
    assert gradient is not None
    used = gradient.abs().sum(dim=0) > 0  # (tags,)
    assert used.nonzero()[:, 0].tolist() == [0, 6]
    first = next(network.blocks.parameters()).grad
    assert first is not None
    assert first.abs().max() > 0


def test_it_starts_where_losses_are_steep() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        network = ProjectionDiscriminator(TAGS)
        with torch.no_grad():
            answer = network(torch.randn(4, 1, 128, 192), tags((0, 3), (1,), (), (0, 2, 4, 5)))
        assert answer.abs().max() < 4
        assert answer.std() > 0


@pytest.mark.parametrize("widths", [{}, {"widths": (4, 8, 12)}], ids=["the papers'", "narrow"])
def test_blocks_are_as_wide_as_is_asked(widths: dict[str, tuple[int, ...]]) -> None:
    network = ProjectionDiscriminator(TAGS, **widths).eval()
    expected = widths.get("widths", (64, 128, 256, 512))
    assert tuple(block[0].out_channels for block in network.blocks) == expected
    assert network(patches(), tags((0,), (1,), ())).shape == (3,)

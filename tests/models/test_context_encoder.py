import pytest
import torch
from torch import Tensor

from models.context_encoder import ContextEncoder, centre, cut, paste
from models.encoders import SmallEncoder, build


def frames(count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 64, 96), dtype=torch.uint8, generator=generator)


@pytest.fixture
def network() -> ContextEncoder:
    torch.manual_seed(0)
    return ContextEncoder(SmallEncoder(4))


@pytest.mark.parametrize(
    "name", ["small", "resnet18", "resnet50", "vgg16_bn", "efficientnet_lite0"]
)
def test_it_paints_half_of_the_height_and_width(name: str) -> None:
    with torch.no_grad():
        patch, target = ContextEncoder(build(name, width=4))(frames())
    assert patch.shape == target.shape == (2, 1, 32, 48)


def test_the_hole_is_the_middle_half() -> None:
    assert centre((256, 384)) == (slice(64, 192), slice(96, 288))


def test_cutting_takes_the_centre_and_leaves_a_hole_of_zeros() -> None:
    grey = torch.arange(1.0, 1 + 8 * 12).reshape(1, 1, 8, 12)
    kept = grey.clone()
    masked, target = cut(grey)
    assert target.shape == (1, 1, 4, 6)
    for row in range(8):
        for column in range(12):
            inside = 2 <= row < 6 and 3 <= column < 9
            assert masked[0, 0, row, column] == (0 if inside else grey[0, 0, row, column])
            if inside:
                assert target[0, 0, row - 2, column - 3] == grey[0, 0, row, column]
    assert torch.equal(grey, kept)


def test_pasting_the_target_back_gives_the_frame() -> None:
    grey = torch.randn(2, 1, 32, 64)
    masked, target = cut(grey)
    assert torch.equal(paste(masked, target), grey)
    assert not torch.equal(masked, grey)


def test_the_target_is_the_centre_of_the_z_scored_frame(network: ContextEncoder) -> None:
    _, target = network(frames())
    grey = frames().double()
    for k in range(2):
        expected = (grey[k] - grey[k].mean()) / grey[k].std(correction=0)
        assert torch.allclose(target[k].double(), expected[:, 16:48, 24:72], atol=1e-5)


def shuffled(rows: slice, columns: slice) -> Tensor:
    """The frames with the pixels of a box in another order: mean and deviation stay."""
    moved = frames()
    box = moved[..., rows, columns]
    order = torch.randperm(box[0].numel(), generator=torch.Generator().manual_seed(2))
    moved[..., rows, columns] = box.flatten(1)[:, order].reshape(box.shape)
    return moved


def test_the_encoder_does_not_see_what_is_in_the_hole(network: ContextEncoder) -> None:
    inside, outside = shuffled(*centre((64, 96))), shuffled(slice(0, 16), slice(0, 96))
    with torch.no_grad():
        (patch, target), (same, moved), (other, _) = (
            network(seen) for seen in (frames(), inside, outside)
        )
    assert patch.std() > 0.1  # batch statistics keep the differences from fading
    # float sums in another order, and the z-score with them, differ in the last bits alone
    assert torch.allclose(patch, same, atol=1e-4)
    assert not torch.allclose(target, moved, atol=0.1)
    assert not torch.allclose(patch, other, atol=0.1)


def test_the_encoder_learns_from_the_patch(network: ContextEncoder) -> None:
    patch, target = network(frames())
    (patch - target).square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name

import pytest
import torch
from torch import Tensor, nn

from models.encoders import Encoder, SmallEncoder, build
from models.unet import UNet


class ColourEncoder(Encoder):
    """Two scales from three channels, as encoders with ImageNet weights want them."""

    in_channels = 3
    channels = (4, 8)
    strides = (2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, frames: Tensor) -> list[Tensor]:
        first = self.first(frames)
        return [first, self.second(first)]


def frames(count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 256, (count, 1, 64, 96), dtype=torch.uint8)


@pytest.mark.parametrize(
    "name", ["small", "resnet18", "resnet50", "vgg16_bn", "efficientnet_lite0"]
)
def test_every_encoder_gives_logits_at_full_size_by_five_up_convolution_blocks(name: str) -> None:
    network = UNet(build(name, width=4), classes=3)
    assert len(network.decoder.blocks) == 5
    with torch.no_grad():
        assert network(frames()).shape == (2, 3, 64, 96)


def test_the_loss_reaches_every_weight() -> None:
    torch.manual_seed(0)
    network = UNet(SmallEncoder(4), classes=2)
    network(frames())[:, 1].square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad[-1].abs().max() > 0, name


def test_probabilities_sum_to_one_over_the_classes() -> None:
    answer = UNet(SmallEncoder(4), classes=3).eval().probabilities(frames())
    assert answer.shape == (2, 3, 64, 96)
    assert torch.allclose(answer.sum(dim=1), torch.ones(2, 64, 96), atol=1e-5)


def test_a_served_frame_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    network = UNet(SmallEncoder(4), classes=3).eval()
    together = network(frames())
    assert torch.allclose(together[:1], network(frames()[:1]), atol=1e-5)


def test_an_encoder_with_three_channels_and_other_scales_fits() -> None:
    assert UNet(ColourEncoder(), classes=2)(frames()).shape == (2, 2, 64, 96)

import torch
from torch import Tensor, nn

from models.encoders import SmallEncoder
from models.unet import UNet


class ColourEncoder(nn.Module):
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

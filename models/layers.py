"""The bricks: normalisation of the input, convolution blocks, the up-convolution block.

Axes are N frames, C channels, H rows, W columns.
"""

import torch
from torch import Tensor, nn

#: Keeps the division alive on a frame of one grey value.
SMALLEST_STD = 1.0


class ZScore(nn.Module):
    """Bring each frame to zero mean and unit standard deviation.

    It is a part of the network, so that what is served is normalised as what was trained.
    """

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to float32 (N, 1, H, W)."""
        grey = frames.to(torch.float32)  # (N, 1, H, W)
        centred = grey - grey.mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, H, W)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)  # (N, 1, 1, 1)
        return centred / variance.clamp(min=SMALLEST_STD**2).sqrt()


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU.

    Maps (N, `inputs`, H, W) to (N, `outputs`, H / `stride`, W / `stride`), rounded up.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(*_conv(inputs, outputs, stride), *_conv(outputs, outputs, 1))


class UpBlock(nn.Module):
    """Twice the size by a transposed convolution, joined with a skip, then a `ConvBlock`.

    Parameters
    ----------
    inputs : int
        Channels from below.
    skip : int
        Channels of the encoder's features at the doubled size.
    outputs : int
        Channels.
    """

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)
        self.block = ConvBlock(outputs + skip, outputs)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Map (N, `inputs`, H, W) and (N, `skip`, 2H, 2W) to (N, `outputs`, 2H, 2W).

        Where the encoder rounded an odd size up, the last row and column are cut.
        """
        raised = self.up(below)[..., : skip.shape[-2], : skip.shape[-1]]  # (N, outputs, 2H, 2W)
        joined = torch.cat((raised, skip), dim=1)  # (N, outputs + skip, 2H, 2W)
        out: Tensor = self.block(joined)
        return out


def draw_normal(module: nn.Module, std: float) -> None:
    """Draw the weights of all (transposed) convolutions and linear layers from N(0, `std`).

    Biases become 0; batch normalisation stays at scale 1 and offset 0.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

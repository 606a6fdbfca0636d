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

    Parameters
    ----------
    by_rows : bool, optional
        Take the mean of each row, then of these: for onnxruntime, which adds up in the order in
        which values lie. Over a whole frame at once that costs it two digits of float32 and more,
        which a trained network makes much of. Torch loses none either way.
    """

    def __init__(self, *, by_rows: bool = False) -> None:
        super().__init__()
        self.by_rows = by_rows

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to float32 (N, 1, H, W)."""
        grey = frames.to(torch.float32)  # (N, 1, H, W)
        centred = grey - self._mean(grey)  # (N, 1, H, W)
        variance = self._mean(centred.square())  # (N, 1, 1, 1)
        return centred / variance.clamp(min=SMALLEST_STD**2).sqrt()

    def _mean(self, values: Tensor) -> Tensor:
        """Map (N, 1, H, W) to the mean of each frame, (N, 1, 1, 1)."""
        if self.by_rows:
            return values.mean(dim=3, keepdim=True).mean(dim=(1, 2), keepdim=True)
        return values.mean(dim=(1, 2, 3), keepdim=True)


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
        super().__init__(*conv_layers(inputs, outputs, stride), *conv_layers(outputs, outputs))


class UpBlock(nn.Sequential):
    """A 3x3 convolution, then a 4x4 transposed one of stride 2, as in TernausNet.

    Each with batch normalisation and ReLU. Maps (N, `inputs`, H, W) to (N, `outputs`, 2H, 2W).

    Parameters
    ----------
    inputs, middle, outputs : int
        Channels before, between and after.
    """

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__(
            *conv_layers(inputs, middle),
            nn.ConvTranspose2d(middle, outputs, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def conv_layers(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Return a 3x3 convolution from `inputs` to `outputs` channels, batch normalisation, ReLU."""
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def draw_normal(module: nn.Module, std: float) -> None:
    """Draw the weights of all (transposed) convolutions and linear layers from N(0, `std`).

    Biases become 0; batch normalisation stays at scale 1 and offset 0.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)

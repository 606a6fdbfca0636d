"""The bricks: normalisation of the input, convolution blocks, the up-convolution block.

Axes are N frames, C channels, H rows, W columns.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class InvertedResidual(nn.Module):
    """A block of EfficientNet-Lite: widen, convolve each channel by itself, narrow.

    ReLU6 after the first two, nothing after the third, and the input added where the shapes allow.
    Maps (N, `inputs`, H, W) to (N, `outputs`, H / `stride`, W / `stride`). H and W are even where
    `stride` is 2: the padding is TensorFlow's, of which the weights come.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    expand : int
        By how much the channels are widened; 1 leaves the first convolution out.
    kernel : int
        Side of the second convolution.
    stride : int
        Of the second convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expand
        self.is_added = stride == 1 and inputs == outputs
        self.expand_conv = self.bn0 = None
        if expand > 1:
            self.expand_conv = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
            self.bn0 = lite_norm(width)
        self.pad = same_padding(kernel, stride)
        self.depthwise_conv = nn.Conv2d(width, width, kernel, stride, groups=width, bias=False)
        self.bn1 = lite_norm(width)
        self.project_conv = nn.Conv2d(width, outputs, kernel_size=1, bias=False)
        self.bn2 = lite_norm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features of the next block."""
        wide = features
        if self.expand_conv is not None and self.bn0 is not None:
            wide = functional.relu6(self.bn0(self.expand_conv(features)))  # (N, width, H, W)
        wide = functional.relu6(self.bn1(self.depthwise_conv(self.pad(wide))))  # (N, width, h, w)
        narrow: Tensor = self.bn2(self.project_conv(wide))  # (N, outputs, h, w)
        return narrow + features if self.is_added else narrow


def same_padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """Return TensorFlow's padding "SAME" of even sides: what is left over comes last."""
    spare = kernel - stride
    before = spare // 2
    return nn.ZeroPad2d((before, spare - before, before, spare - before))


def lite_norm(channels: int) -> nn.BatchNorm2d:
    """Return the batch normalisation of EfficientNet-Lite; its pace is torch's own.

    The published pace, a hundredth a step, is for many thousand steps and not for a fine-tuning.
    """
    return nn.BatchNorm2d(channels, eps=1e-3)


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

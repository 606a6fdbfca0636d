"""Encoders: from normalised frames to features at five scales.

Every encoder tells its `in_channels`, the `channels` of its features and their `strides` against
the input, finest first; decoders and heads ask for nothing else.
"""

from typing import Protocol

from torch import Tensor, nn

from models.layers import ConvBlock


class Encoder(Protocol):
    """What a decoder or a head needs to know of an encoder; it is an `nn.Module` besides."""

    #: channels of the input; grey frames are repeated to fill them
    in_channels: int
    #: channels of the features, finest first, length L
    channels: tuple[int, ...]
    #: input pixels for each feature pixel, finest first, each twice the one before, length L
    strides: tuple[int, ...]

    def __call__(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, in_channels, H, W) to L tensors (N, channels[i], H/s_i, W/s_i)."""


class SmallEncoder(nn.Module):
    """Five levels of two convolutions each, for small sets and small machines.

    Parameters
    ----------
    width : int
        Channels of the first level; the others have 2, 4, 6 and 8 times as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.in_channels = 1
        self.channels: tuple[int, ...] = (width, 2 * width, 4 * width, 6 * width, 8 * width)
        self.strides: tuple[int, ...] = (2, 4, 8, 16, 32)
        inputs = (self.in_channels, *self.channels[:-1])
        self.levels = nn.ModuleList(
            ConvBlock(before, after, stride=2)
            for before, after in zip(inputs, self.channels, strict=True)
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, 1, H, W) to five tensors (N, channels[i], H/strides[i], W/strides[i])."""
        features = []
        for level in self.levels:
            frames = level(frames)  # (N, channels[i], H / strides[i], W / strides[i])
            features.append(frames)
        return features

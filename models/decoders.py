"""Decoders: from features back to pixels, of the whole frame or of its centre."""

import itertools

import torch
from torch import Tensor, nn

from models.layers import UpBlock, conv_layers, draw_normal

#: Spread of the first weights of `ContextDecoder`, as in Pathak's context encoder.
FIRST_STD = 0.02
#: Most channels that an up-convolution block of a U-Net computes with, as in TernausNet.
WIDEST = 512
#: Fewest that it gives; with 8 the small encoder's network learned worse on phantoms.
NARROWEST = 16


class UNetDecoder(nn.Module):
    """The expanding half of a U-Net: an up-convolution block for each doubling up to full size.

    Each block's answer is joined with the encoder's features of the doubled size where there are
    any; a 3x3 convolution ends it. Widths follow TernausNet: a block computes with as many channels
    as the features that it starts from, 512 at most, and gives half as many as the features that it
    is joined with, 16 at least. On VGG16 these are TernausNet's own but for 128 instead of 256 at
    stride 4.

    Weights start as torch draws them; batch normalisation follows every convolution, so that their
    scale does not matter.

    Parameters
    ----------
    channels : tuple of int
        Of the encoder's features, finest first.
    strides : tuple of int
        Of the same, each twice the one before.

    Attributes
    ----------
    out_channels : int
        Channels of the map.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        doublings = strides[0].bit_length() - 1  # those beyond the finest features
        skips = (*channels[-2::-1], *(0,) * doublings)
        levels = (*channels[::-1], *channels[:1] * doublings)
        self.blocks = nn.ModuleList()
        joined = channels[-1]
        for level, skip in zip(levels, skips, strict=False):
            raised = _half(skip or level)
            self.blocks.append(UpBlock(joined, min(level, WIDEST), raised))
            joined = raised + skip
        self.out_channels = _half(channels[0])
        self.last = nn.Sequential(*conv_layers(joined, self.out_channels))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map L tensors (N, channels[i], H/s_i, W/s_i) to (N, out_channels, H, W)."""
        raised = features[-1]
        for block, skip in itertools.zip_longest(self.blocks, features[-2::-1]):
            raised = block(raised)  # twice the rows and columns
            if skip is not None:
                raised = torch.cat((raised, skip), dim=1)
        out: Tensor = self.last(raised)
        return out


class ContextDecoder(nn.Sequential):
    """From the deepest features to the centre of the frame: four up-convolution blocks.

    Each block is a 3x3 transposed convolution of stride 2, batch normalisation and ReLU, with 512,
    256, 128 and 64 channels; a 3x3 convolution to one channel follows, without activation, since
    the target is z-scored. Maps (N, `inputs`, H/32, W/32) to (N, 1, H/2, W/2).

    Weights start from N(0, 0.02), biases at 0.

    Parameters
    ----------
    inputs : int
        Channels of the encoder's deepest features.
    """

    def __init__(self, inputs: int) -> None:
        widths = (inputs, 512, 256, 128, 64)
        blocks = (_raise(below, above) for below, above in itertools.pairwise(widths))
        super().__init__(*blocks, nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1))
        draw_normal(self, FIRST_STD)


def _half(channels: int) -> int:
    return max(channels // 2, NARROWEST)


def _raise(inputs: int, outputs: int) -> nn.Sequential:
    """Map (N, `inputs`, h, w) to (N, `outputs`, 2h, 2w)."""
    return nn.Sequential(
        nn.ConvTranspose2d(
            inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

"""Decoders: from features at several scales back to one map at the finest scale."""

import itertools

from torch import Tensor, nn

from models.layers import UpBlock, draw_normal

#: Spread of the first weights of `ContextDecoder`, as in Pathak's context encoder.
FIRST_STD = 0.02


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


class UNetDecoder(nn.Module):
    """The expanding half of a U-Net: one `UpBlock` for each step between two scales.

    Parameters
    ----------
    channels : tuple of int
        Of the encoder's features, finest first.

    Attributes
    ----------
    out_channels : int
        Channels of the map.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        # from the coarsest to the finest, each block as wide as the skip that it takes in
        self.blocks = nn.ModuleList(
            UpBlock(below, skip, skip) for below, skip in itertools.pairwise(channels[::-1])
        )
        self.out_channels = channels[0]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map L tensors (N, channels[i], H/s_i, W/s_i) to (N, channels[0], H/s_0, W/s_0)."""
        raised = features[-1]
        for block, skip in zip(self.blocks, features[-2::-1], strict=True):
            raised = block(raised, skip)  # twice the rows and columns
        return raised


def _raise(inputs: int, outputs: int) -> nn.Sequential:
    """Map (N, `inputs`, h, w) to (N, `outputs`, 2h, 2w)."""
    return nn.Sequential(
        nn.ConvTranspose2d(
            inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1, bias=False
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

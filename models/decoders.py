"""Decoders: from features at several scales back to one map at the finest scale."""

import itertools

from torch import Tensor, nn

from models.layers import UpBlock


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

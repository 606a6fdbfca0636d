"""A 3D encoder with the five heads of 3D-RADNet: what a series is."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.resnet3d import ResNet3d


class SeriesNetwork(nn.Module):
    """Name sequence, plane, contrast, regions and slice spacing of volumes.

    Parameters
    ----------
    encoder : ResNet3d
    heads : mapping of str to int
        Outputs of each head, in order.
    """

    def __init__(self, encoder: ResNet3d, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.sizes = dict(heads)
        self.head = nn.Linear(encoder.channels[-1], sum(heads.values()))

    def forward(self, volumes: Tensor) -> Tensor:
        """Map uint8 (N, 1, S, R, L) to the logits of all heads side by side, (N, K)."""
        deepest = self.encoder(volumes)[-1]
        logits: Tensor = self.head(deepest.mean(dim=(2, 3, 4)))
        return logits

    def parts(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the logits of each head, (N, k) each."""
        return dict(zip(self.sizes, torch.split(logits, list(self.sizes.values()), 1), strict=True))

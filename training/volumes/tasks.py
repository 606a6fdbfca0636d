"""What is learned from volumes: what a series is, and where organs lie in it."""

from typing import Final

import torch
from torch import Tensor, nn

from models.resnet3d import ResNet3d
from models.series import SeriesNetwork
from models.volume_segmenter import VolumeSegmenter
from training.config import SeriesSettings, VolumeSegmentSettings, VolumeSettings
from training.contrast import is_shared
from training.loop import Batch, Networks, Player
from training.losses import rarity, soft_dice_loss
from training.metrics import dice
from training.volumes.targets import CHOICES, HEADS, known_mean, losses

_NETWORK: Final = "network"


def encoder_of(settings: VolumeSettings) -> ResNet3d:
    """Return an encoder; its weights follow from torch's seed."""
    return ResNet3d(settings.depth, settings.width)


class NamingSeries:
    """Learn all five heads at once; their losses weigh the same.

    Parameters
    ----------
    settings : SeriesSettings
    """

    measures = ("loss", *HEADS, *(f"{name}_accuracy" for name in CHOICES))

    def __init__(self, settings: SeriesSettings) -> None:
        self.network = SeriesNetwork(encoder_of(settings), HEADS)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.players = {_NETWORK: Player(self.network, optimizer)}

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the sum of the means over what is known to any device, and its parts."""
        shared = is_shared(networks[turn], self.network)
        parts = self.network.parts(networks[turn](batch["frames"]))
        each = losses(parts, batch["targets"])
        means = {name: known_mean(one, shared=shared) for name, one in each.items()}
        return means | {"loss": torch.stack(list(means.values())).sum()}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return the losses, and whether each choice is right, (N, M)."""
        targets = batch["targets"]
        parts = self.network.parts(networks[_NETWORK](batch["frames"]))
        of_heads = torch.stack(list(losses(parts, targets).values()), dim=1)
        right = [
            torch.where(
                targets[:, place].isfinite(),
                (parts[name].argmax(dim=1) == targets[:, place]).float(),
                torch.nan,
            )
            for place, name in enumerate(CHOICES)
        ]
        loss = of_heads.nan_to_num(0.0).sum(dim=1, keepdim=True)
        return torch.cat([loss, of_heads, torch.stack(right, dim=1)], dim=1)


class SegmentingVolumes:
    """Learn masks: soft Dice and cross entropy, half each, where rare labels weigh more.

    Parameters
    ----------
    settings : VolumeSegmentSettings
    """

    def __init__(self, settings: VolumeSegmentSettings) -> None:
        self.network = VolumeSegmenter(encoder_of(settings), settings.labels)
        self.measures = ("loss", *(f"dice_{label}" for label in range(1, settings.labels)))
        self._frozen = _frozen_parts(self.network.encoder, settings.freeze)
        for part in self._frozen:
            part.requires_grad_(False)
        learning = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=settings.learning_rate)
        self.players = {_NETWORK: Player(self.network, optimizer)}

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        for part in self._frozen:
            part.eval()  # the loop puts all into training; batch statistics are kept, too
        return {"loss": _loss(networks[turn](batch["frames"]), batch["mask"])}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return the loss and the Dice of each label, (N, M)."""
        logits, masks = networks[_NETWORK](batch["frames"]), batch["mask"]
        each = [_loss(logits[at : at + 1], masks[at : at + 1]) for at in range(len(logits))]
        found = dice(*_flat(logits, masks))
        return torch.cat([torch.stack(each)[:, None], found], dim=1)


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    weights = rarity(masks, logits.shape[1])
    entropy = nn.functional.cross_entropy(logits.float(), masks, weight=weights)
    return 0.5 * soft_dice_loss(*_flat(logits, masks)) + 0.5 * entropy


def _flat(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return volumes as tall pictures, for what knows pictures."""
    return logits.flatten(2, 3), masks.flatten(1, 2)


def _frozen_parts(encoder: ResNet3d, freeze: int | None) -> list[nn.Module]:
    if freeze is None:
        return []
    return [encoder.stem, *list(encoder.blocks)[:freeze]]

"""Predict the tags from the whole frame: the papers' baseline DCM.

The papers leave head and loss open; here a linear layer on pooled features, and binary cross
entropy over the bits of the tags that were written.
"""

import torch
from torch import Tensor, nn

from models import encoders
from models.classifier import ClassNetwork
from training.config import PretrainSettings, Settings
from training.loop import Batch, Networks, Player
from training.recipes.reading import checked
from training.tags import TAG_BITS, has_tags, tag_accuracy, tag_loss, tag_losses


class Options(Settings):
    """It has none."""


class Tags:
    """A network with one logit a bit of y.

    Parameters
    ----------
    network : ClassNetwork
        With `TAG_BITS` logits.
    learning_rate : float
        Of Adam.
    """

    measures = ("loss", "accuracy")
    targets = ("tags",)
    tags_alone = True

    def __init__(self, network: ClassNetwork, learning_rate: float) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        self.players = {"network": Player(network, optimizer)}
        self.encoder: nn.Module = network.encoder

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of `training.tags.tag_loss`."""
        return {"loss": tag_loss(networks[turn](batch["frames"]), batch["tags"])}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return loss and the part of bits that is right, (N, 2)."""
        logits = networks["network"](batch["frames"])
        y = batch["tags"]
        losses = tag_losses(logits, y).masked_fill(~has_tags(y), torch.nan)
        return torch.stack((losses, tag_accuracy(logits, y)), dim=1)


def build(settings: PretrainSettings) -> Tags:
    """Return the pretext; its weights follow from torch's seed."""
    checked(settings.strategy.options, Options, where=f"recipe {settings.strategy.name}: options")
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    return Tags(ClassNetwork(encoder, classes=TAG_BITS), settings.learning_rate)

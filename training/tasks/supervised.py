"""One network that learns from readers' labels, for `training.loop`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from models.encoders import Encoder
from training.batches import Source
from training.config import FinetuneSettings
from training.loop import Batch, Player


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a task wants of its network."""

    #: uint8 (N, 1, H, W) to logits; has ``encoder`` and ``probabilities``
    network: nn.Module
    #: which part of a batch is the target
    target: str
    #: logits, target -> the number to make small, ()
    loss: Callable[[Tensor, Tensor], Tensor]
    #: logits, target -> one row a frame, (N, M); NaN does not count
    measure: Callable[[Tensor, Tensor], Tensor]
    #: names of the M measures
    measures: tuple[str, ...]


class Supervised:
    """A task of one player.

    Parameters
    ----------
    objective : Objective
        What is wanted.
    settings : FinetuneSettings
        Learning rate, and whether the encoder stays as it is.
    """

    def __init__(self, objective: Objective, settings: FinetuneSettings) -> None:
        self.target = objective.target
        self.measures = ("loss", *objective.measures)
        self._objective = objective
        network = objective.network
        self._freeze = settings.freeze or settings.last_block
        #: what learns of a frozen encoder
        self._melted = [self.encoder.last_block] if settings.last_block else []
        if self._freeze:
            self.encoder.requires_grad_(requires_grad=False)
        for block in self._melted:
            block.requires_grad_(requires_grad=True)
        learning = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=settings.learning_rate, fused=True)
        self.players = {"network": Player(network=network, optimizer=optimizer)}

    @property
    def network(self) -> nn.Module:
        """The network itself, as it was built."""
        return self._objective.network

    @property
    def encoder(self) -> Encoder:
        """The part that pretraining may have filled."""
        return cast(Encoder, self._objective.network.get_submodule("encoder"))

    def find_statistics(self, training: Source, device: torch.device) -> None:
        """Measure batch statistics on one epoch of training frames, where the encoder is frozen.

        For one that was drawn at random: it has seen no picture, and its statistics (mean 0 and
        variance 1) are of none. What is frozen with them is so far from what its layers give that
        nothing can be learned on top of it.

        Parameters
        ----------
        training : Source
            The batches that will be learned from.
        device : torch.device
            Where they are.
        """
        if self._freeze:
            frames = (batch["frames"] for batch in training.epoch(0))
            update_bn(frames, self.network.to(device))

    def loss(self, turn: str, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch, ()."""
        if self._freeze:
            # batch statistics are a part of the encoder: frozen, they are used and not learned
            self.encoder.eval()
        for block in self._melted:
            block.train()
        logits = networks[turn](batch["frames"])
        return {"loss": self._objective.loss(logits, batch[self.target])}

    def measure(self, networks: Mapping[str, nn.Module], batch: Batch) -> Tensor:
        """Return loss and measures of each frame, (N, M); the loss is that of its batch."""
        logits, target = networks["network"](batch["frames"]), batch[self.target]
        rows = self._objective.measure(logits, target)  # (N, M - 1)
        loss = self._objective.loss(logits, target).expand(len(rows), 1)  # (N, 1)
        return torch.cat((loss, rows), dim=1)

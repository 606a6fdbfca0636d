"""Contrast of single frames against a queue of earlier ones: MoCo v2.

Views, optimizer and pace are those of `training.pretexts.uscl`. Batches are not shuffled between
GPUs: batch normalisation sees the same frames in both networks.
"""

from copy import deepcopy
from typing import Annotated, Any, cast

import numpy as np
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import update_momentum
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from models import encoders
from models.contrast import ContrastNetwork, MomentumNetwork
from training import clips
from training.clips import Pairs
from training.config import Count, PretrainSettings, Rate
from training.contrast import is_shared, of_all, queued
from training.contrasting import NETWORK, Contrasting, ContrastOptions, for_pairs
from training.loop import Batch, Networks
from training.pack import Pack
from training.recipes.reading import checked


class Options(ContrastOptions):
    """What is compared, and how."""

    temperature: Rate = 0.2
    #: how much of itself the network that follows keeps in a step
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    #: projections of earlier frames that are negatives; 65536 in the paper, for a million pictures
    queue: Count = 4096


class MoCo(Contrasting):
    """The pretext.

    Parameters
    ----------
    options : Options
    settings : PretrainSettings
    network : MomentumNetwork
    """

    measures = ("loss",)

    def __init__(
        self, options: Options, settings: PretrainSettings, network: MomentumNetwork
    ) -> None:
        super().__init__(options, settings, network, network.query)
        self._temperature, self._momentum = options.temperature, options.momentum
        self.encoder = cast(nn.Module, network.query.encoder)

    def batches(self, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Pairs:
        """Return two views of each row."""
        return self.begun(clips.of_stills(pack, rows, **for_pairs(how)))

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Let the key network follow, return InfoNCE, and remember the keys of all processes."""
        network = cast(MomentumNetwork, self.players[turn].network)
        update_momentum(network.query, network.key, m=self._momentum)
        rows, keys = self._rows(networks[turn], network.queue.clone(), batch)
        network.remember(of_all(keys, shared=is_shared(networks[turn], network)))
        return {"loss": rows.mean()}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return InfoNCE of each frame against the queue as it is, (B, 1)."""
        network = cast(MomentumNetwork, self.players[NETWORK].network)
        rows, _ = self._rows(networks[NETWORK], network.queue, batch)
        return rows[:, None]

    def _rows(self, network: nn.Module, queue: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        query, key = (normalize(each.float(), dim=1) for each in network(batch["frames"]))
        return queued(query, key, queue, self._temperature), key


def build(settings: PretrainSettings) -> MoCo:
    """Return the pretext; its weights follow from torch's seed."""
    recipe = settings.strategy
    options = checked(recipe.options, Options, where=f"recipe {recipe.name}: options")
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    deepest, features = encoder.channels[-1], options.features
    query = ContrastNetwork(encoder, MoCoProjectionHead(deepest, deepest, features))
    network = MomentumNetwork(query, deepcopy(query), features=features, length=options.queue)
    return MoCo(options, settings, network)

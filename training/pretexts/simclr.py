"""Contrast of single frames: two views of a frame belong together, SimCLR.

Views, head, optimizer and pace are those of `training.pretexts.uscl`, so that the two differ in
their pairs alone. Frames of one clip are negatives like all others.
"""

from typing import Any, cast

import numpy as np
from lightly.models.modules import SimCLRProjectionHead
from numpy.typing import NDArray
from torch import Tensor, nn

from models import encoders
from models.contrast import ContrastNetwork
from training import clips
from training.clips import Pairs
from training.config import PretrainSettings
from training.contrast import is_shared, nt_xent
from training.contrasting import NETWORK, Contrasting, ContrastOptions, for_pairs
from training.loop import Batch, Networks
from training.pack import Pack
from training.recipes.reading import checked


class Options(ContrastOptions):
    """What is compared, and how: nothing of its own."""


class SimClr(Contrasting):
    """The pretext.

    Parameters
    ----------
    options : Options
    settings : PretrainSettings
    network : ContrastNetwork
    """

    measures = ("loss",)

    def __init__(
        self, options: Options, settings: PretrainSettings, network: ContrastNetwork
    ) -> None:
        super().__init__(options, settings, network, network)
        self._temperature = options.temperature
        self.encoder = cast(nn.Module, network.encoder)

    def batches(self, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Pairs:
        """Return two views of each row."""
        return self.begun(clips.of_stills(pack, rows, **for_pairs(how)))

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return NT-Xent."""
        shared = is_shared(networks[turn], self.players[turn].network)
        return {"loss": self._rows(networks[turn], batch, shared=shared).mean()}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return NT-Xent of each view, (2B, 1)."""
        return self._rows(networks[NETWORK], batch, shared=False)[:, None]

    def _rows(self, network: nn.Module, batch: Batch, *, shared: bool) -> Tensor:
        projected, _ = network(batch["frames"])
        first, second = projected.tensor_split(2)
        return nt_xent(first, second, self._temperature, shared=shared)


def build(settings: PretrainSettings) -> SimClr:
    """Return the pretext; its weights follow from torch's seed."""
    recipe = settings.strategy
    options = checked(recipe.options, Options, where=f"recipe {recipe.name}: options")
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    deepest = encoder.channels[-1]
    head = SimCLRProjectionHead(deepest, deepest, options.features, batch_norm=False)
    return SimClr(options, settings, ContrastNetwork(encoder, head))

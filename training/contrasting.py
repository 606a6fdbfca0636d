"""What pretexts by contrast have in common: one network, Adam, and one pace."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import Field
from torch import nn
from torch.optim import Adam

from training.clips import Pairs
from training.config import Count, PretrainSettings, Rate, Settings
from training.contrast import pace
from training.loop import Player

NETWORK: Final = "network"
#: what `Pairs` takes of what the loop says of batches
_HOW: Final = ("batch_size", "seed", "training", "rank", "world", "device")


class ContrastOptions(Settings):
    """How it is learned; the defaults are those of USCL."""

    #: divides the cosines
    temperature: Rate = 0.5
    #: numbers of a projection
    features: Count = 128
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    #: epochs before the learning rate goes down
    constant_epochs: Annotated[int, Field(ge=0)] = 10


class Contrasting:
    """What learns, and how fast.

    Parameters
    ----------
    options : ContrastOptions
    settings : PretrainSettings
        Learning rate and epochs of the run.
    network : nn.Module
        The whole of what learns.
    learning : nn.Module
        The part of it that gradients change.
    """

    targets: tuple[str, ...] = ()
    tags_alone = False

    def __init__(
        self,
        options: ContrastOptions,
        settings: PretrainSettings,
        network: nn.Module,
        learning: nn.Module,
    ) -> None:
        self._pace = {"epochs": settings.epochs, "constant_epochs": options.constant_epochs}
        optimizer = _adam(learning.parameters(), settings, options)
        self.players = {NETWORK: Player(network, optimizer)}

    def begun(self, pairs: Pairs) -> Pairs:
        """Return the same; how many steps they make an epoch long sets the pace of training."""
        if pairs.training:
            player = self.players[NETWORK]
            player.scheduler = pace(player.optimizer, steps=len(pairs), **self._pace)
        return pairs


def for_pairs(how: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `Pairs` takes by name."""
    return {name: how[name] for name in _HOW}


def _adam(
    weights: Iterable[nn.Parameter], settings: PretrainSettings, options: ContrastOptions
) -> Adam:
    return Adam(weights, lr=settings.learning_rate, weight_decay=options.weight_decay, fused=True)

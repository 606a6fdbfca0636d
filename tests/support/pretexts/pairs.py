"""A pretext of one file: neighbouring frames of a clip belong together, others do not.

It stands for contrast within videos, and draws its batches itself. Like all pretexts it is loaded
as a module of `training.pretexts`.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models import encoders
from models.classifier import ClassNetwork
from training.config import PretrainSettings
from training.loop import Batch, Networks, Player
from training.pack import Pack

_FEATURES, _TEMPERATURE = 8, 0.1


@dataclass(frozen=True, eq=False)
class Pairs:
    """Batches of pairs: all first frames, then their neighbours in the same order."""

    pack: Pack
    rows: NDArray[np.int64]
    _: KW_ONLY
    batch_size: int
    seed: int
    training: bool
    rank: int
    world: int
    device: torch.device

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """Rows of the pack, (P, 2)."""
        known = self.pack.rows
        clip, number = known.instance[self.rows], known.frame_number[self.rows]
        order = np.lexsort((number, clip))
        ahead, behind = order[:-1], order[1:]
        fits = (clip[ahead] == clip[behind]) & (number[ahead] + 1 == number[behind])
        return self.rows[np.stack((ahead[fits], behind[fits]), axis=1)]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.pairs), self.batch_size)
        return whole + (rest > 0 and not (self.training and whole))

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield ``frames``, uint8 (2B, 1, H, W)."""
        order = np.arange(len(self.pairs))
        if self.training:
            order = np.random.default_rng((self.seed, number)).permutation(order)
        for step in range(len(self)):
            whole = self.pairs[order[step * self.batch_size : (step + 1) * self.batch_size]]
            part = np.array_split(whole, self.world)[self.rank]
            frames = self.pack.frames[part.T.reshape(-1)]
            yield {"frames": torch.from_numpy(frames)[:, None].to(self.device)}


class Contrast:
    """Tell the neighbour of a frame from the frames of other clips."""

    measures = ("loss",)
    targets = ()
    tags_alone = False

    def __init__(self, network: ClassNetwork, learning_rate: float) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        self.players = {"network": Player(network, optimizer)}
        self.encoder = network.encoder

    def batches(self, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Pairs:
        """Return pairs of some rows."""
        known = ("batch_size", "seed", "training", "rank", "world", "device")
        return Pairs(pack, rows, **{name: how[name] for name in known})

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the mean over the pairs."""
        return {"loss": self.measure(networks, batch).mean()}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return the cross entropy of each pair, (P, 1)."""
        features = functional.normalize(networks["network"](batch["frames"]), dim=1)
        first, second = features.chunk(2)
        likeness = first @ second.T / _TEMPERATURE  # (P, P)
        own = torch.arange(len(first), device=likeness.device)
        return functional.cross_entropy(likeness, own, reduction="none")[:, None]


def build(settings: PretrainSettings) -> Contrast:
    """Return the pretext."""
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    return Contrast(ClassNetwork(encoder, classes=_FEATURES), settings.learning_rate)

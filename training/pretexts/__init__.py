"""Pretexts: what an encoder learns on before anybody labels a frame.

A pretext is a module of this folder with a function ``build(settings) -> Pretext``; a recipe names
the module. The loop knows none of them. Batches are frames in any order with the pretext's targets,
unless it is a `Drawing` and draws them itself.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dicom_node.errors import ConfigError
from training import loop
from training.batches import Batches, Source
from training.config import PretrainSettings
from training.pack import Pack


@runtime_checkable
class Pretext(loop.Task, Protocol):
    """A task whose encoder is kept."""

    @property
    def encoder(self) -> nn.Module:
        """What fine-tuning starts from."""

    @property
    def targets(self) -> tuple[str, ...]:
        """What a batch holds beside its frames, of `training.batches.TARGETS`."""

    @property
    def tags_alone(self) -> bool:
        """Whether a frame without any tag teaches nothing."""


@runtime_checkable
class Drawing(Protocol):
    """A pretext that draws its batches in its own way, as pairs of frames of one clip."""

    def batches(self, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Source:
        """Return batches of some rows of a pack.

        Parameters
        ----------
        pack : Pack
            Knows clip and frame number of each row.
        rows : ndarray of int64
            Of one split; others must not be drawn.
        **how
            What `training.batches.Batches` takes by name.
        """


@runtime_checkable
class Counting(Protocol):
    """A pretext that says, when its training batches are drawn, of how much it learns."""

    @property
    def counts(self) -> Mapping[str, int]:
        """For ``run.json``: what is counted, and how many there are."""


def batches(pretext: Pretext, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Source:
    """Return the batches of a pretext, drawn by itself or frame by frame; see `Drawing`."""
    draw = pretext.batches if isinstance(pretext, Drawing) else Batches
    return draw(pack, rows, targets=pretext.targets, **how)


def names() -> list[str]:
    """Return the pretexts that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build(settings: PretrainSettings) -> Pretext:
    """Return the pretext that a strategy names, its networks with the weights they begin with.

    Raises
    ------
    ConfigError
        When there is no such pretext, or an option will not do.
    """
    name = settings.strategy.pretext
    if name is None:
        raise ConfigError(
            f"the strategy {settings.strategy.name!r} needs no pretraining; fine-tune with it"
        )
    if name not in names():
        raise ConfigError(f"pretext: {name!r}: there are {', '.join(names())}")
    module = importlib.import_module(f"training.pretexts.{name}")
    pretext: Pretext = module.build(settings)
    return pretext

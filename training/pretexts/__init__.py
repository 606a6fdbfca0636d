"""Pretexts: what an encoder learns on before anybody labels a frame.

A pretext is a module of this folder with a function ``build(settings) -> Pretext``; a recipe names
the module. The loop knows none of them.
"""

import importlib
import pkgutil
from typing import Protocol, runtime_checkable

from torch import nn

from dicom_node.errors import ConfigError
from training import loop
from training.config import PretrainSettings


@runtime_checkable
class Pretext(loop.Task, Protocol):
    """A task whose encoder is kept."""

    @property
    def encoder(self) -> nn.Module:
        """What fine-tuning starts from."""

    @property
    def needs_tags(self) -> bool:
        """Whether frames without any tag teach nothing."""


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

"""The settings of a run: frozen, and complete enough to repeat it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final

from dicom_node.errors import ConfigError
from dicom_node.records import Task

#: Strides of the deepest features: a smaller input leaves them nothing.
SMALLEST_INPUT_PX = 64


class Preset(StrEnum):
    """Named sizes of a run."""

    FULL = "full"
    DEMO = "demo"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a network's input is, how often it sees each frame and how fast it learns."""

    height: int
    width: int
    epochs: int
    learning_rate: float = 2e-3


#: ``full`` has the papers' 256 x 384 (rows and columns, in our reading); ``demo`` is what two
#: cores train in about a minute on 200 phantoms, both tasks together; its learning rates were
#: chosen by the validation split of four sets of phantoms.
PRESETS: Final[Mapping[tuple[Preset, Task], Scale]] = MappingProxyType(
    {
        (Preset.FULL, Task.SEGMENTATION): Scale(height=256, width=384, epochs=40),
        (Preset.FULL, Task.QUALITY): Scale(height=256, width=384, epochs=40),
        (Preset.DEMO, Task.SEGMENTATION): Scale(height=128, width=192, epochs=16),
        (Preset.DEMO, Task.QUALITY): Scale(height=128, width=192, epochs=32, learning_rate=4e-3),
    }
)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a loop learns."""

    epochs: int
    #: peak of the one-cycle schedule
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How to fine-tune one model.

    Raises
    ------
    ConfigError
        When a value cannot work.
    """

    #: folder of the weak-label store
    store: Path
    task: Task
    epochs: int = 40
    batch_size: int = 8
    seed: int = 0
    #: size of the network's input in pixels; 256 x 384 are the papers' rows and columns
    height: int = 256
    width: int = 384
    #: processes that read frames; 0 reads in the training process
    workers: int = 0
    #: peak of the one-cycle schedule
    learning_rate: float = 2e-3
    #: channels of the encoder's first level
    encoder_width: int = 16
    #: weight of the bits that are 1 in the ordinal loss, from the papers
    positive_weight: float = 2.0
    #: weights to start from, as an earlier run left them
    start: Path | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 2),
            ("seed", 0),
            ("height", SMALLEST_INPUT_PX),
            ("width", SMALLEST_INPUT_PX),
            ("workers", 0),
            ("encoder_width", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name} is {value}: give at least {least}")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}: give more than 0")

    @property
    def schedule(self) -> Schedule:
        """The part that the loop reads."""
        return Schedule(epochs=self.epochs, learning_rate=self.learning_rate)

    def recipe(self) -> str:
        """Return the line that goes into a bundle's provenance."""
        return (
            f"finetune {self.task} encoder=small-{self.encoder_width} "
            f"input={self.height}x{self.width} epochs={self.epochs} batch={self.batch_size} "
            f"lr={self.learning_rate:g} start={self.start.name if self.start else 'random'}"
        )

"""What a matrix is: which strategies, encoders, tasks, shares and seeds make a table.

A matrix of one's own is a file like those in ``matrices/``; it is named by its path.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from dicom_node.records import Task
from training.config import (
    Count,
    EncoderName,
    FinetuneSettings,
    Name,
    PretrainSettings,
    Rate,
    Settings,
    Share,
    Size,
)
from training.recipes.reading import Shelf
from training.recipes.table import BatchSize, Seed, Table

#: After a strategy: fine-tuned with its encoder frozen.
FROZEN: Final = "+F"

#: A recipe's name or path, with `FROZEN` behind it or without.
StrategyName = Annotated[str, Field(pattern=r"^[^+]+(\+F)?$")]


class TaskSettings(Settings):
    """One column of the table; what `FinetuneSettings` leave to it."""

    task: Task
    labels: Name | None = None
    #: one for all encoders, or one for each
    learning_rate: Rate | dict[EncoderName, Rate] = 1e-4
    #: one for all shares, or one for each
    epochs: Count | dict[Share, Count]
    #: one for all shares, or one for each
    batch_size: BatchSize | dict[Share, BatchSize] = 8
    pace: Literal["constant", "one_cycle"] = "constant"
    positive_weight: Rate = 2.0

    def learning_rate_of(self, encoder: EncoderName) -> float:
        """Return the rate of an encoder."""
        rates = self.learning_rate
        return rates[encoder] if isinstance(rates, dict) else rates

    def epochs_of(self, share: float) -> int:
        """Return the epochs at a share of the training patients."""
        return self.epochs[share] if isinstance(self.epochs, dict) else self.epochs

    def batch_size_of(self, share: float) -> int:
        """Return the frames a step at a share of the training patients."""
        sizes = self.batch_size
        return sizes[share] if isinstance(sizes, dict) else sizes


class Pretraining(Settings):
    """How every strategy with a pretext is pretrained, so that the strategies cost the same."""

    epochs: Count = PretrainSettings.model_fields["epochs"].default
    batch_size: BatchSize = PretrainSettings.model_fields["batch_size"].default
    learning_rate: Rate = PretrainSettings.model_fields["learning_rate"].default
    discriminator_learning_rate: Rate = PretrainSettings.model_fields[
        "discriminator_learning_rate"
    ].default


class PaperNumber(Settings):
    """A score that a paper prints, for the cell beside which it is shown."""

    strategy: StrategyName
    encoder: EncoderName
    task: str
    share: Share
    value: Annotated[float, Field(ge=0, le=1)]
    #: which paper, as the table's legend calls it
    source: str
    note: str = ""


class Speed(Settings):
    """Training images a second that were measured once: what a dry run reckons with.

    A validation image counts as a third of one.
    """

    pretrain: Rate
    finetune: Rate
    #: on what machine
    machine: str


class Matrix(Table):
    """A table to reproduce; its seeds are those of fine-tuning."""

    #: the caption in a few words, under every figure and table
    mark: str
    size: Size = Size()
    encoders: Annotated[tuple[EncoderName, ...], Field(min_length=1)]
    #: a row of each, without `FROZEN` as `recipes` and `options` name it
    strategies: Annotated[tuple[StrategyName, ...], Field(min_length=1)]
    tasks: Annotated[dict[Name, TaskSettings], Field(min_length=1)]
    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (1.0,)
    pretrain: Pretraining = Pretraining()
    #: fine-tuning seed i starts from pretraining seed i modulo their number
    pretrain_seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    #: draws of half of the test frames
    bootstraps: Count = 1000
    #: pairs of strategies, tested against each other
    compare: tuple[tuple[StrategyName, StrategyName], ...] = ()
    #: whose weights stay on disk: those of the first seed, or of all
    keep: Literal["first_seed", "all"] = "first_seed"
    #: on a CPU: how many cells run side by side, each on its part of the cores
    at_once: Count = 1
    paper: tuple[PaperNumber, ...] = ()
    speed: Speed | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """The strategies, frozen or not."""
        return tuple(name.removesuffix(FROZEN) for name in self.strategies)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for key in ("encoders", "shares", "pretrain_seeds"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: one is named twice; name each once")
        for name, task in self.tasks.items():
            _check_covers(f"tasks.{name}.learning_rate", task.learning_rate, self.encoders)
            _check_covers(f"tasks.{name}.epochs", task.epochs, self.shares)
            _check_covers(f"tasks.{name}.batch_size", task.batch_size, self.shares)
        for strategy in (name for pair in self.compare for name in pair):
            if strategy not in self.strategies:
                raise ValueError(f"compare: {strategy!r} is none of the strategies; add it there")
        for number in self.paper:
            if number.strategy not in self.strategies or number.task not in self.tasks:
                raise ValueError(f"paper: {number.strategy}, {number.task}: no cell of this matrix")
        return self

    @model_validator(mode="after")
    def _tasks_can_be_trained(self) -> Self:
        for task in self.tasks.values():
            FinetuneSettings(task=task.task, labels=task.labels)
        return self


_SHELF: Final = Shelf(Path(__file__).parent / "matrices", Matrix, "matrix")
#: the shipped ones, and one by its name or from a file
names, load = _SHELF.names, _SHELF.load


def _check_covers(key: str, values: object, wanted: tuple[object, ...]) -> None:
    if isinstance(values, dict):
        for each in wanted:
            if each not in values:
                raise ValueError(f"{key}: gives none for {each}; add it")

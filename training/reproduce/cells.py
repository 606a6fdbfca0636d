"""The cells of a matrix: single runs, with names that are their folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from training.config import EncoderName, FinetuneSettings, PretrainSettings, Strategy
from training.reproduce.matrix import FROZEN, Matrix


@dataclass(frozen=True, kw_only=True)
class PretrainCell:
    """One pretraining, shared by all fine-tunings that start from it."""

    settings: PretrainSettings

    @property
    def strategy(self) -> str:
        """The row's name: the recipe's, or its own."""
        return self.settings.strategy.name

    @property
    def name(self) -> str:
        """The cell's folder below ``runs``."""
        s = self.settings
        return f"pretrain/{s.encoder}/{self.strategy}/seed-{s.seed}"


@dataclass(frozen=True, kw_only=True)
class FinetuneCell:
    """One fine-tuning, and where its encoder comes from."""

    #: the row's name, with ``+F`` behind it where the encoder is frozen
    strategy: str
    #: key of the matrix' tasks
    task: str
    settings: FinetuneSettings
    #: None for weights that need no pretraining
    start: PretrainCell | None
    #: begins with published weights
    imagenet: bool

    @property
    def name(self) -> str:
        """The cell's folder below ``runs``."""
        s = self.settings
        percent = f"{100 * s.share:g}-percent"
        return f"finetune/{self.task}/{s.encoder}/{self.strategy}/{percent}/seed-{s.seed}"


Cell = PretrainCell | FinetuneCell


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All cells of a matrix, in the order in which they run."""

    matrix: Matrix
    #: as the table names them, in the matrix' order
    strategies: tuple[str, ...]
    pretrain: tuple[PretrainCell, ...]
    finetune: tuple[FinetuneCell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Pretraining first."""
        return (*self.pretrain, *self.finetune)

    def find(self, *, strategy: str, encoder: str, task: str, share: float) -> list[FinetuneCell]:
        """Return the cells that differ in their seed alone, in the order of the seeds."""
        return [
            cell
            for cell in self.finetune
            if (cell.strategy, cell.task) == (strategy, task)
            and (cell.settings.encoder, cell.settings.share) == (encoder, share)
        ]


def plan(matrix: Matrix) -> Plan:
    """Lay out a matrix.

    Fine-tuning goes seed by seed, so that a report on the way compares like with like.

    Raises
    ------
    ConfigError
        When a strategy has no recipe.
    """
    entries = tuple(_entry(matrix, text) for text in matrix.strategies)
    finetune = tuple(_finetune_cells(matrix, entries))
    # a dict keeps the first of each name, in order
    pretrain = {cell.start.name: cell.start for cell in finetune if cell.start is not None}
    return Plan(
        matrix=matrix,
        strategies=tuple(entry.name for entry in entries),
        pretrain=tuple(pretrain.values()),
        finetune=finetune,
    )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    name: str
    strategy: Strategy
    is_frozen: bool


def _entry(matrix: Matrix, text: str) -> _Entry:
    strategy = matrix.strategy(text.removesuffix(FROZEN))
    is_frozen = text.endswith(FROZEN)
    # a recipe that was named by its path stands in the table by its name
    name = strategy.name + FROZEN * is_frozen
    return _Entry(name=name, strategy=strategy, is_frozen=is_frozen)


def _finetune_cells(matrix: Matrix, entries: tuple[_Entry, ...]) -> Iterator[FinetuneCell]:
    axes = (enumerate(matrix.seeds), matrix.encoders, matrix.tasks.items(), matrix.shares, entries)
    for (number, seed), encoder, (name, task), share, entry in product(*axes):
        settings = FinetuneSettings(
            task=task.task,
            labels=task.labels,
            encoder=encoder,
            encoder_width=matrix.encoder_width,
            size=matrix.size,
            epochs=task.epochs_of(share),
            batch_size=task.batch_size_of(share),
            learning_rate=task.learning_rate_of(encoder),
            pace=task.pace,
            positive_weight=task.positive_weight,
            share=share,
            freeze=entry.is_frozen,
            seed=seed,
        )
        yield FinetuneCell(
            strategy=entry.name,
            task=name,
            settings=settings,
            start=_start(matrix, entry.strategy, encoder, number),
            imagenet=entry.strategy.weights == "imagenet",
        )


def _start(
    matrix: Matrix, strategy: Strategy, encoder: EncoderName, number: int
) -> PretrainCell | None:
    if strategy.pretext is None:
        return None
    settings = PretrainSettings(
        strategy=strategy,
        encoder=encoder,
        encoder_width=matrix.encoder_width,
        size=matrix.size,
        seed=matrix.pretrain_seeds[number % len(matrix.pretrain_seeds)],
        **matrix.pretrain.model_dump(),
    )
    return PretrainCell(settings=settings)

"""What every table of strategies says: which, of what network, and how they are pretrained."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dicom_node.errors import ConfigError
from training import recipes
from training.config import (
    Count,
    EncoderName,
    Engine,
    Name,
    PretrainSettings,
    Rate,
    Settings,
    Share,
    Size,
    Strategy,
)

BatchSize = Annotated[int, Field(ge=2)]


class Pretraining(Settings):
    """How every strategy with a pretext is pretrained."""

    #: one for all strategies, or one for each: an epoch of `uscl` is a pair of each clip, one of
    #: the others a picture or two of each frame
    epochs: Count | dict[str, Count]
    batch_size: BatchSize = 32
    learning_rate: Rate = 3e-4


class Comparison(Settings):
    """Strategies that are pretrained on the same clips and held against each other."""

    name: Name
    title: str
    #: what the numbers are, and are not
    caption: str
    #: of the class set; the frames' classes are some of its names
    labels: Name
    #: `dataset` of the index, where it holds more than one
    dataset: str | None = None
    size: Size = Size(height=224, width=224)
    encoder: EncoderName = EncoderName.RESNET18
    #: of the encoder ``small`` alone
    encoder_width: Count = 16
    strategies: Annotated[tuple[str, ...], Field(min_length=1)]
    #: of a strategy's pretext, above those of its recipe
    options: dict[str, dict[str, float | int | bool | str]] = Field(default_factory=dict)
    pretrain: Pretraining
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    #: of the clips of the training folds, class by class: they choose the epoch
    validation: Annotated[Share, Field(lt=1)] = 0.2
    #: of a clip of training and validation, spread over it; test clips are tested whole
    most_frames: Count | None = None
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.strategies)) < len(self.strategies):
            raise ValueError("strategies: one is named twice; name each once")
        for name in self.options:
            if name not in self.strategies:
                raise ValueError(f"options: {name!r} is none of the strategies; add it there")
        return self

    def strategy(self, name: str) -> Strategy:
        """Return a strategy's recipe with the options of this table.

        Raises
        ------
        ConfigError
            When it has no recipe.
        """
        recipe = recipes.load(name)
        options = recipe.options | self.options.get(name, {})
        return recipe.model_copy(update={"options": options})

    def pretraining(self, name: str, strategy: Strategy, seed: int) -> PretrainSettings:
        """Return how a strategy is pretrained.

        Raises
        ------
        ConfigError
            When the table does not say for how long.
        """
        epochs = self.pretrain.epochs
        if isinstance(epochs, dict):
            if name not in epochs:
                raise ConfigError(f"pretrain.epochs: gives none for {name}; add it")
            epochs = epochs[name]
        return PretrainSettings(
            strategy=strategy,
            epochs=epochs,
            batch_size=self.pretrain.batch_size,
            learning_rate=self.pretrain.learning_rate,
            seed=seed,
            size=self.size,
            **self.network(),
        )

    def network(self) -> dict[str, Any]:
        """Return what all settings of the table say of the encoder."""
        return {"encoder": self.encoder, "encoder_width": self.encoder_width}

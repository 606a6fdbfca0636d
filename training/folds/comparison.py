"""What tables of pretraining on clips say: of what network, and how it is pretrained."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dicom_node.errors import ConfigError
from training.config import (
    Count,
    EncoderName,
    Name,
    PretrainSettings,
    Rate,
    Settings,
    Share,
    Size,
    Strategy,
)
from training.recipes.table import BatchSize, Table


class Pretraining(Settings):
    """How every strategy with a pretext is pretrained."""

    #: one for all strategies, or one for each: an epoch of `uscl` is a pair of each clip, one of
    #: the others a picture or two of each frame
    epochs: Count | dict[str, Count]
    batch_size: BatchSize = 32
    learning_rate: Rate = 3e-4


class Comparison(Table):
    """Strategies that are pretrained on the same clips and held against each other."""

    #: of the class set; the frames' classes are some of its names
    labels: Name
    #: `dataset` of the index, where it holds more than one
    dataset: str | None = None
    size: Size = Size(height=224, width=224)
    encoder: EncoderName = EncoderName.RESNET18
    pretrain: Pretraining
    #: of the clips of the training folds, class by class: they choose the epoch
    validation: Annotated[Share, Field(lt=1)] = 0.2
    #: of a clip of training and validation, spread over it; test clips are tested whole
    most_frames: Count | None = None

    @model_validator(mode="after")
    def _rows_name_folders(self) -> Self:
        for name in self.strategies:
            if Path(name).name != name or name.endswith((".yaml", ".yml")):
                raise ValueError(
                    f"strategies: {name!r} will not do: a folder is named so; write a short name, "
                    f"and 'recipes: {{NAME: {name}}}'"
                )
        return self

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

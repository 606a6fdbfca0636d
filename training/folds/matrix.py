"""What a table over folds is: which strategies, how they are pretrained and fine-tuned."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from dicom_node.records import Task
from training.config import Count, FinetuneSettings, Rate, Settings
from training.folds.comparison import Comparison
from training.recipes.reading import Shelf
from training.recipes.table import BatchSize

Mode = Literal["last", "all"]


class Finetuning(Settings):
    """How one part of the network is fine-tuned."""

    epochs: Count
    batch_size: BatchSize = 32
    learning_rate: Rate
    pace: Literal["constant", "one_cycle"] = "one_cycle"


class Folds(Comparison):
    """A table over folds."""

    finetune: Annotated[dict[Mode, Finetuning], Field(min_length=1)]

    def finetuning(self, mode: Mode, seed: int) -> FinetuneSettings:
        """Return how a part of the network is fine-tuned."""
        return FinetuneSettings(
            task=Task.CLASSIFICATION,
            labels=self.labels,
            last_block=mode == "last",
            seed=seed,
            size=self.size,
            **self.finetune[mode].model_dump(),
            **self.network(),
        )


_SHELF: Final = Shelf(Path(__file__).parent / "presets", Folds, "table")
#: the shipped ones, and one by its name or from a file
names, load = _SHELF.names, _SHELF.load

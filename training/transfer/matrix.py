"""What a table of lesions is: how encoders are pretrained, and how detectors are trained."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from dicom_node.records import Task
from training.config import Count, DetectSettings, Name, Rate, Settings, Size
from training.folds.comparison import Comparison
from training.recipes.reading import Shelf
from training.recipes.table import BatchSize


class Detecting(Settings):
    """How every detector is trained."""

    #: the label set of the masks
    labels: Name
    size: Size
    epochs: Count
    batch_size: BatchSize
    learning_rate: Rate
    heads: Literal["full", "slim"] = "full"


class Transfer(Comparison):
    """A table of lesions by what the encoder began with."""

    #: of the clips, left out of pretraining: its encoders are those of `train folds` on that fold
    fold: Annotated[int, Field(ge=0)] = 0
    detect: Detecting

    def detecting(self, seed: int) -> DetectSettings:
        """Return how a detector is trained."""
        settings: dict[str, Any] = {**self.detect.model_dump(), **self.network(), "seed": seed}
        return DetectSettings(task=Task.SEGMENTATION, **settings)


_SHELF: Final = Shelf(Path(__file__).parent / "presets", Transfer, "table")
#: the shipped ones, and one by its name or from a file
names, load = _SHELF.names, _SHELF.load

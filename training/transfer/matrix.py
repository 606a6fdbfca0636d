"""What a table of lesions is: how encoders are pretrained, and how detectors are trained."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from dicom_node.records import Task
from training.config import Count, DetectSettings, Name, Rate, Settings, Size
from training.folds.comparison import Comparison
from training.recipes.reading import load_settings, shipped
from training.recipes.table import BatchSize

FOLDER: Final = Path(__file__).parent / "presets"


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


def names() -> list[str]:
    """Return the shipped tables."""
    return shipped(FOLDER)


def load(name: str) -> Transfer:
    """Read a table by its name, or from a file.

    Raises
    ------
    ConfigError
        When there is none of that name, or the file says something that is not known.
    """
    return load_settings(name, Transfer, FOLDER, "table")

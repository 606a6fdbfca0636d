"""What a network can be fine-tuned for: one module a task, all learned by the same loop."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from dicom_node.records import Task
from models import encoders
from models.encoders import Encoder
from training.config import FinetuneSettings
from training.tasks import classification, quality, segmentation
from training.tasks.supervised import Objective, Supervised

__all__ = ["Supervised", "build"]

_OBJECTIVES: Final[
    Mapping[Task, Callable[[FinetuneSettings, Encoder, tuple[str, ...]], Objective]]
] = MappingProxyType(
    {
        Task.SEGMENTATION: segmentation.objective,
        Task.QUALITY: quality.objective,
        Task.CLASSIFICATION: classification.objective,
    }
)


def build(settings: FinetuneSettings, names: tuple[str, ...] = ()) -> Supervised:
    """Return the untrained network of a task, and what is wanted of it.

    Parameters
    ----------
    settings : FinetuneSettings
        What to do.
    names : tuple of str
        Labels of a segmentation (without background) or classes of a classification, in the order
        of their values; empty for the quality.
    """
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    return Supervised(_OBJECTIVES[settings.task](settings, encoder, names), settings)

"""Plain classification: one class a frame."""

from torch import Tensor
from torch.nn import functional

from models.classifier import ClassNetwork
from models.encoders import Encoder
from training import metrics
from training.config import FinetuneSettings
from training.tasks.supervised import Objective


def objective(settings: FinetuneSettings, encoder: Encoder, names: tuple[str, ...]) -> Objective:
    """Return what is wanted of a network that tells the classes `names` apart."""
    del settings
    return Objective(
        network=ClassNetwork(encoder, classes=len(names)),
        target="class",
        loss=functional.cross_entropy,
        measure=_right,
        measures=("accuracy",),
    )


def _right(logits: Tensor, classes: Tensor) -> Tensor:
    return metrics.accuracy(logits, classes)[:, None]  # (N, 1)

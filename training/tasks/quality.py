"""View quality, 0 to 4, as four ordinal bits."""

from functools import partial

from models.encoders import Encoder
from models.quality import QualityNetwork
from training import losses, metrics
from training.config import FinetuneSettings
from training.tasks.supervised import Objective


def objective(settings: FinetuneSettings, encoder: Encoder, names: tuple[str, ...]) -> Objective:
    """Return what is wanted of a quality network; it has no label names."""
    del names
    return Objective(
        network=QualityNetwork(encoder),
        target="quality",
        loss=partial(losses.ordinal_loss, positive_weight=settings.positive_weight),
        measure=metrics.quality,
        measures=("accuracy", "absolute_error"),
    )

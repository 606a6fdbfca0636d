"""The labels of volumes as numbers, and what is right and wrong about an answer to them.

Everything that a header did not say is masked: it has no loss and no score.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_node.store import SeriesLabels
from dicom_node.store.volumes import PLANES, REGIONS, SEQUENCES
from training.contrast import mean_of_known

CONTRASTS: Final = ("no", "yes")
#: Heads of one answer out of several, with their classes.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "sequence": SEQUENCES,
    "plane": PLANES,
    "contrast": CONTRASTS,
}
#: Outputs of each head.
HEADS: Final = {name: len(classes) for name, classes in CHOICES.items()} | {
    "regions": len(REGIONS),
    "spacing": 1,
}
#: Columns of a row of targets: one for each choice, the regions, the logarithm of the spacing.
COLUMNS: Final = (*CHOICES, *REGIONS, "spacing")
_REGIONS: Final = slice(len(CHOICES), len(CHOICES) + len(REGIONS))


def rows_of(labels: Sequence[SeriesLabels]) -> NDArray[np.float32]:
    """Return one row a volume, (N, `COLUMNS`); NaN is unknown."""
    return np.array([_row(one) for one in labels], np.float32).reshape(-1, len(COLUMNS))


def _row(labels: SeriesLabels) -> list[float]:
    contrast = None if labels.contrast is None else CONTRASTS[labels.contrast]
    said = {"sequence": labels.sequence, "plane": labels.plane, "contrast": contrast}
    choices = [
        np.nan if said[name] is None else float(classes.index(str(said[name])))
        for name, classes in CHOICES.items()
    ]
    regions = [
        float(region in labels.regions) if region in labels.regions_known else np.nan
        for region in REGIONS
    ]
    return [*choices, *regions, float(np.log(labels.slice_spacing_mm))]


def losses(parts: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
    """Return the loss of each head and volume, (N,) each; NaN where nothing is known.

    Cross entropy of the choices, mean binary cross entropy of the known regions, and the smooth L1
    distance of the logarithm of the spacing: 3 mm for 2 is as wrong as 6 for 4.
    """
    found = {}
    for place, name in enumerate(CHOICES):
        known = targets[:, place].isfinite()
        asked = targets[:, place].nan_to_num(0.0).long()
        loss = functional.cross_entropy(parts[name].float(), asked, reduction="none")
        found[name] = torch.where(known, loss, torch.nan)
    wanted = targets[:, _REGIONS]
    known = wanted.isfinite()
    bits = functional.binary_cross_entropy_with_logits(
        parts["regions"].float(), wanted.nan_to_num(0.0), reduction="none"
    )
    counted = known.sum(dim=1)
    mean = (bits * known).sum(dim=1) / counted.clamp(min=1)
    found["regions"] = torch.where(counted > 0, mean, torch.nan)
    found["spacing"] = functional.smooth_l1_loss(
        parts["spacing"][:, 0].float(), targets[:, -1], reduction="none"
    )
    return found


def known_mean(values: Tensor, *, shared: bool = False) -> Tensor:
    """Return the mean of what is no NaN, 0 where nothing is; its slope is 0 for the rest.

    With `shared` the average of what processes return is the mean over all of them.
    """
    known = values.isfinite()
    return mean_of_known(torch.where(known, values, 0.0), known, shared=shared)


def answers(parts: dict[str, Tensor]) -> Tensor:
    """Return probabilities of choices and regions, and the logarithm of the spacing, (N, K)."""
    chosen = [parts[name].float().softmax(dim=1) for name in CHOICES]
    return torch.cat([*chosen, parts["regions"].float().sigmoid(), parts["spacing"].float()], dim=1)

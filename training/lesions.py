"""Single lesions of a mask, and how well found ones fit: average precision."""

from math import nan
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

#: pixels at the input's size that a part of a mask must have to count as a lesion of its own
SMALLEST_PX: Final = 8
#: a soft outline counts from here
_INSIDE: Final = 0.5
#: name of a measure -> torchmetrics' name
_PRECISIONS: Final = {
    "box_ap": "bbox_map",
    "box_ap50": "bbox_map_50",
    "box_ap75": "bbox_map_75",
    "mask_ap": "segm_map",
    "mask_ap50": "segm_map_50",
    "mask_ap75": "segm_map_75",
}


def targets_of(masks: Tensor) -> list[dict[str, Tensor]]:
    """Return the lesions of label maps, as a detector learns them.

    Parameters
    ----------
    masks : Tensor, int64 (N, H, W)
        0 is background; what hangs together and bears one value is one lesion.

    Returns
    -------
    list of dict of Tensor
        ``boxes`` float32 (M, 4): left, top, right, bottom; ``labels`` int64 (M,); ``masks`` uint8
        (M, H, W). M is 0 where nothing is.
    """
    found = [_lesions(mask) for mask in masks.cpu().numpy()]
    return [{n: t.to(masks.device) for n, t in each.items()} for each in found]


def _lesions(mask: NDArray[np.int64]) -> dict[str, Tensor]:
    boxes, labels, parts = [], [], []
    for value in np.unique(mask[mask > 0]):
        numbered, count = ndimage.label(mask == value)
        for number in range(1, count + 1):
            part = numbered == number
            if part.sum() < SMALLEST_PX:
                continue
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            labels.append(int(value))
            parts.append(part)
    return {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.tensor(np.array(parts, np.uint8).reshape(-1, *mask.shape)),
    }


def union(found: dict[str, Tensor], least_score: float) -> Tensor:
    """Return where a detector sees anything, bool (H, W), of what it is sure of."""
    sure = found["masks"][found["scores"] >= least_score]  # (M, 1, H, W)
    inside: Tensor = (sure >= _INSIDE).any(dim=0)[0]
    return inside


def average_precision(
    found: list[dict[str, Tensor]], wanted: list[dict[str, Tensor]]
) -> dict[str, float]:
    """Return average precision of boxes and of outlines: over overlaps, at 0.5 and at 0.75.

    Parameters
    ----------
    found : list of dict
        Of each frame: ``boxes``, ``labels``, ``scores`` and soft ``masks`` (M, 1, H, W).
    wanted : list of dict
        As `targets_of` gives them.

    Returns
    -------
    dict of float
        0 to 1; NaN where there is no lesion to be found.
    """
    metric = MeanAveragePrecision(iou_type=("bbox", "segm"))
    metric.update(
        [_hard(each) for each in found], [e | {"masks": e["masks"].bool()} for e in wanted]
    )
    known: dict[str, Any] = metric.compute()
    said = {name: float(known[theirs]) for name, theirs in _PRECISIONS.items()}
    # torchmetrics says -1 where there is nothing
    return {name: value if value >= 0 else nan for name, value in said.items()}


def _hard(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return found | {"masks": found["masks"][:, 0] >= _INSIDE}

"""How right the classes of frames are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What predicted classes are worth."""

    accuracy: float
    #: mean of those of the classes that are there or were said
    f1: float
    #: of each of the K classes, 0 where nothing is there to be right about
    f1_of: tuple[float, ...]
    recall_of: tuple[float, ...]
    precision_of: tuple[float, ...]


def scores(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Scores:
    """Return the scores of (N,) classes, 0 to `classes` - 1, against the true ones."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, predicted), 1)  # (K true, K predicted)
    right, said, there = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
    f1 = 2 * right / np.maximum(said + there, 1)
    return Scores(
        accuracy=float(right.sum() / len(truth)),
        f1=float(f1[said + there > 0].mean()),
        f1_of=tuple(f1.tolist()),
        recall_of=tuple((right / np.maximum(there, 1)).tolist()),
        precision_of=tuple((right / np.maximum(said, 1)).tolist()),
    )

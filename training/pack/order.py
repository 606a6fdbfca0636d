"""The order in which an epoch reads an export: whole shards, a few at a time."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Shards whose rows are shuffled together.
WINDOW: Final = 4


def windows(
    shard: NDArray[np.int32], rng: np.random.Generator, window: int = WINDOW
) -> NDArray[np.int64]:
    """Return an order of rows: shards at random, and rows at random among some shards together.

    Parameters
    ----------
    shard : ndarray of int32, (n,)
        In which each row lies.
    rng : Generator
        Decides; the same state gives the same order.
    window : int
        Shards whose rows are shuffled together.

    Returns
    -------
    ndarray of int64, (n,)
        Places in `shard`.
    """
    numbers = rng.permutation(np.unique(shard))
    rank = np.zeros(int(shard.max(initial=0)) + 1, np.int64)
    rank[numbers] = np.arange(len(numbers)) // window
    shuffled = rng.permutation(len(shard))
    return shuffled[np.argsort(rank[shard[shuffled]], kind="stable")]

"""How sure a score is, and whether two runs differ: bootstraps and paired tests.

Everywhere, a value that is NaN is a frame that was not asked (an organ neither there nor found): it
does not count, and a pair counts where both values do.

Frames of one patient are alike. With `clusters` whole patients are drawn instead of frames, which
is the honest way to say how a score would vary over patients; the papers draw frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon as scipy_wilcoxon

from dicom_node.errors import StoreError

#: As in the papers: so many draws, each of this part of the test set, with replacement.
DRAWS = 1000
PART = 0.5


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A mean and how it varies over draws."""

    #: of the means of the draws
    mean: float
    sd: float
    #: mean of each draw, float64 (draws,)
    draws: NDArray[np.float64]


def bootstrap(
    values: ArrayLike,
    *,
    draws: int = DRAWS,
    part: float = PART,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> Bootstrap:
    """Draw parts of the values again and again, with replacement, and look at their means.

    Parameters
    ----------
    values : array_like
        One score a frame, (N,).
    draws : int
        How often.
    part : float
        Size of a draw against all frames (or patients), 0 to 1; at least one is drawn.
    seed : int
        The same seed draws the same frames, so that two runs on the same frames are comparable.
    clusters : array_like, optional
        Patient of each frame, (N,): draw patients instead of frames.

    Raises
    ------
    StoreError
        When no value counts.
    """
    means = _means(values, clusters, draws=draws, part=part, seed=seed)
    spread = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    return Bootstrap(mean=float(means.mean()), sd=spread, draws=means)


def paired(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> float:
    """Return the two-sided p-value of "both runs score alike on these frames", above 0 to 1.

    The frames are drawn anew, all of them with replacement and the same in both runs. p is the
    share of draws whose mean difference lies as far from the found one as that lies from 0. All of
    k patients (or frames) differ in the same direction in 2^(1 - k) of cases by chance alone, so p
    is never below that: two patients prove nothing.

    Parameters
    ----------
    ours, theirs : array_like
        Scores of the same frames in the same order, (N,).
    draws : int
        How often; p is 1 / (draws + 1) at least.
    seed : int
        Of the draws.
    clusters : array_like, optional
        Patient of each frame, (N,): draw patients instead of frames.

    Raises
    ------
    StoreError
        When no pair counts.
    """
    difference = _difference(ours, theirs)
    found = float(np.nanmean(difference))
    if found == 0:
        return 1.0
    by_chance = 2.0 ** (1 - len(_units(difference, clusters)[0]))
    means = _means(difference, clusters, draws=draws, part=1.0, seed=seed)
    # rounding must not decide whether a draw lies as far
    as_far = np.abs(means - found) >= abs(found) * (1 - 1e-12)
    return max(float((as_far.sum() + 1) / (draws + 1)), by_chance)


def wilcoxon(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test on paired scores.

    Pairs that do not differ are dropped; p is 1 where none is left.

    Raises
    ------
    StoreError
        When no pair counts.
    """
    difference = _difference(ours, theirs)
    difference = difference[np.isfinite(difference) & (difference != 0)]
    if not len(difference):
        return 1.0
    return float(scipy_wilcoxon(difference).pvalue)


def _difference(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if one.shape != other.shape:
        raise StoreError(
            f"{len(one)} scores against {len(other)}: not of the same frames; "
            "compare runs on the same store, task and labels"
        )
    difference = one - other  # (N,)
    if not np.isfinite(difference).any():
        raise StoreError("no frame has a score in both runs; compare runs on the same test frames")
    return difference


def _means(
    values: ArrayLike, clusters: ArrayLike | None, *, draws: int, part: float, seed: int
) -> NDArray[np.float64]:
    """Return the mean of each draw, (draws,)."""
    sums, counts = _units(np.asarray(values, np.float64), clusters)  # (U,), (U,)
    size = max(1, round(part * len(sums)))
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        drawn = rng.integers(0, len(sums), size)
        means[draw] = sums[drawn].sum() / counts[drawn].sum()
    return means


def _units(
    values: NDArray[np.float64], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sum and count of the values of each unit that is drawn: a frame or a patient."""
    counting = np.isfinite(values)
    if not counting.any():
        raise StoreError("no test frame has a score; label frames of test patients")
    finite = values[counting]
    if clusters is None:
        return finite, np.ones(len(finite))
    _, unit = np.unique(np.asarray(clusters)[counting], return_inverse=True)
    sums, counts = np.zeros(unit.max() + 1), np.zeros(unit.max() + 1)
    np.add.at(sums, unit, finite)
    np.add.at(counts, unit, 1)
    return sums, counts

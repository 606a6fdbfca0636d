"""The papers' Table 2, and the tests of one strategy against another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training import statistics
from training.config import EncoderName
from training.reproduce.cells import Plan
from training.reproduce.matrix import PaperNumber
from training.reproduce.results import Result, mean_of

#: Means that differ by less look equal in the table.
_EQUAL: Final = 5e-4
#: Below it a difference is called one, if frames, patients and seeds say so.
ALPHA: Final = 0.05


@dataclass(frozen=True, kw_only=True, order=True)
class Column:
    """Where in the table a score stands, but for its strategy."""

    encoder: EncoderName
    task: str
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """What a strategy reaches in a column, over all its seeds."""

    #: over the bootstraps of all seeds
    mean: float
    sd: float
    #: float64, (seeds x bootstraps,)
    draws: NDArray[np.float64]
    #: mean over the test frames, by seed
    by_seed: dict[int, float]
    #: test frames that count, and their patients
    frames: int
    patients: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One strategy against another on the same test frames."""

    first: str
    second: str
    column: Column
    #: mean of the first less that of the second, over the seeds that both have
    difference: float
    #: 95 % of the bootstraps of that difference, over patients
    low: float
    high: float
    #: paired bootstraps of frames; the papers name no test
    p_frames: float
    #: paired bootstraps of patients: frames of one patient are alike
    p_patients: float
    #: signed ranks of frames
    p_wilcoxon: float
    #: seeds in which the first is better, and worse, of those that both have
    wins: int
    losses: int
    seeds: int
    #: test patients with a score in both
    patients: int

    @property
    def is_shown(self) -> bool:
        """Whether frames and patients call it a difference, and no seed says otherwise.

        The tests ask how scores vary over frames and patients; one training that went wrong can
        pass them, so every seed must point the same way too.
        """
        agree = self.seeds in (self.wins, self.losses)
        return agree and max(self.p_frames, self.p_patients) < ALPHA


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Everything that is counted."""

    strategies: tuple[str, ...]
    columns: tuple[Column, ...]
    scores: Mapping[tuple[str, Column], Score]
    comparisons: tuple[Comparison, ...]
    paper: Mapping[tuple[str, Column], tuple[PaperNumber, ...]]

    def best(self, column: Column) -> str | None:
        """Return the strategy with the highest mean of a column; None where several have it."""
        found = [s for s in self.strategies if (s, column) in self.scores]
        found.sort(key=lambda strategy: self.scores[strategy, column].mean, reverse=True)
        means = [self.scores[strategy, column].mean for strategy in found[:2]]
        return found[0] if len(found) > 1 and means[0] - means[1] > _EQUAL else None


def tabulate(plan: Plan, results: list[Result]) -> Table:
    """Count what there is; cells that are not finished are left out.

    Raises
    ------
    StoreError
        When the runs of a column did not score the same frames.
    """
    matrix = plan.matrix
    columns = tuple(
        Column(encoder=encoder, task=task, share=share)
        for encoder, task, share in product(matrix.encoders, matrix.tasks, matrix.shares)
    )
    seeds: dict[tuple[str, Column], dict[int, Result]] = {}
    for result in results:
        seeds.setdefault(_key(result), {})[result.cell.settings.seed] = result
    draws = matrix.bootstraps
    return Table(
        strategies=plan.strategies,
        columns=columns,
        scores={key: _score(found, draws) for key, found in seeds.items() if _counts(found)},
        comparisons=tuple(_comparisons(matrix.compare, columns, seeds, draws)),
        paper=_paper(matrix.paper),
    )


def _key(result: Result) -> tuple[str, Column]:
    settings = result.cell.settings
    column = Column(encoder=settings.encoder, task=result.cell.task, share=settings.share)
    return result.cell.strategy, column


def _paper(
    numbers: tuple[PaperNumber, ...],
) -> dict[tuple[str, Column], tuple[PaperNumber, ...]]:
    found: dict[tuple[str, Column], tuple[PaperNumber, ...]] = {}
    for number in numbers:
        column = Column(encoder=number.encoder, task=number.task, share=number.share)
        key = number.strategy, column
        found[key] = (*found.get(key, ()), number)
    return found


def _counts(results: dict[int, Result]) -> bool:
    return any(np.isfinite(result.score).any() for result in results.values())


def _score(results: dict[int, Result], draws: int) -> Score:
    # one seed of the bootstraps for all: every strategy and every seed meets the same frames
    each = [statistics.bootstrap(r.score, draws=draws, seed=0).draws for r in results.values()]
    together = np.concatenate(each)  # (seeds x draws,)
    one = next(iter(results.values()))
    counting = np.isfinite(one.score)
    return Score(
        mean=float(together.mean()),
        sd=float(together.std(ddof=1)) if len(together) > 1 else 0.0,
        draws=together,
        by_seed={seed: result.mean for seed, result in results.items()},
        frames=int(counting.sum()),
        patients=len(np.unique(one.patient[counting])),
    )


def _comparisons(
    pairs: tuple[tuple[str, str], ...],
    columns: tuple[Column, ...],
    seeds: dict[tuple[str, Column], dict[int, Result]],
    draws: int,
) -> Iterator[Comparison]:
    for (first, second), column in product(pairs, columns):
        ours, theirs = seeds.get((first, column), {}), seeds.get((second, column), {})
        both = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
        if any(np.isfinite(one.score - other.score).any() for one, other in both):
            yield _compare(first, second, column, both, draws=draws)


def _compare(
    first: str, second: str, column: Column, pairs: list[tuple[Result, Result]], *, draws: int
) -> Comparison:
    for one, other in pairs:
        if not np.array_equal(one.frame_id, other.frame_id):
            raise StoreError(
                f"{one.cell.name} and {other.cell.name} were scored on other frames; "
                "the store has changed between them: run the matrix into a new folder"
            )
    ours = mean_of(np.stack([one.score for one, _ in pairs]))  # (N,)
    theirs = mean_of(np.stack([other.score for _, other in pairs]))  # (N,)
    patients = pairs[0][0].patient
    spread = statistics.bootstrap(
        ours - theirs, draws=draws, part=1.0, seed=0, clusters=patients
    ).draws
    low, high = np.quantile(spread, (0.025, 0.975))
    return Comparison(
        first=first,
        second=second,
        column=column,
        difference=float(np.nanmean(ours - theirs)),
        low=float(low),
        high=float(high),
        p_frames=statistics.paired(ours, theirs, draws=draws, seed=0),
        p_patients=statistics.paired(ours, theirs, draws=draws, seed=0, clusters=patients),
        p_wilcoxon=statistics.wilcoxon(ours, theirs),
        wins=sum(one.mean > other.mean for one, other in pairs),
        losses=sum(one.mean < other.mean for one, other in pairs),
        seeds=len(pairs),
        patients=len(np.unique(patients[np.isfinite(ours - theirs)])),
    )

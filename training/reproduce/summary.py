"""What the report says in words and numbers: plain records for its two templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import curves, runs
from training.pack import Pack
from training.pack.rows import TAGS
from training.reproduce import results
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.ledger import Ledger
from training.reproduce.looks import colour_of, name_of, percent, title_of
from training.reproduce.matrix import PaperNumber
from training.reproduce.results import MEASURE
from training.reproduce.table import Column, Comparison, Score, Table


@dataclass(frozen=True, kw_only=True)
class Place:
    """One score of the table."""

    text: str
    is_best: bool
    seeds: str
    paper: tuple[PaperNumber, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One strategy of the table."""

    name: str
    colour: str
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One comparison, in words."""

    first: str
    second: str
    colour: str
    task: str
    share: str
    difference: str
    interval: str
    wins: str
    p_frames: str
    p_patients: str
    p_wilcoxon: str
    #: test patients
    patients: int
    is_shown: bool


@dataclass(frozen=True, kw_only=True)
class Count:
    """On how many tasks (of all encoders) one strategy is better than another, and worse."""

    better: int
    worse: int
    #: not told apart
    open: int
    #: mean difference over the tasks
    mean: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One pair of strategies, share by share."""

    first: str
    second: str
    colour: str
    counts: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """What a task learns from and is tested on."""

    title: str
    measure: str
    train: tuple[str, ...]
    validation: str
    test: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What cells of one kind cost."""

    what: str
    cells: int
    epochs: str
    images_per_s: str
    seconds: str
    total: str


def rows(table: Table, columns: Sequence[Column]) -> list[Row]:
    """Return the table's lines for some columns."""
    return [
        Row(
            name=name_of(strategy),
            colour=colour_of(strategy, table.strategies),
            places=tuple(_place(table, strategy, column) for column in columns),
        )
        for strategy in table.strategies
    ]


def _place(table: Table, strategy: str, column: Column) -> Place:
    score = table.scores.get((strategy, column))
    return Place(
        text="" if score is None else f"{score.mean:.3f} ± {score.sd:.3f}",
        is_best=table.best(column) == strategy,
        seeds="" if score is None else _seeds(score),
        paper=table.paper.get((strategy, column), ()),
    )


def _seeds(score: Score) -> str:
    each = ", ".join(f"{mean:.3f}" for _, mean in sorted(score.by_seed.items()))
    return f"seeds: {each}; {score.frames} frames of {score.patients} patients"


def contests(table: Table) -> list[Contest]:
    """Return the comparisons, the smallest share first."""
    ordered = sorted(table.comparisons, key=lambda c: (c.column.share, _pair(table, c)))
    return [
        Contest(
            first=name_of(c.first),
            second=name_of(c.second),
            colour=colour_of(c.first, table.strategies),
            task=title_of(c.column.task),
            share=percent(c.column.share),
            difference=f"{c.difference:+.3f}",
            interval=f"{c.low:+.3f} to {c.high:+.3f}",
            wins=f"{c.wins} of {c.seeds}",
            patients=c.patients,
            p_frames=_p(c.p_frames),
            p_patients=_p(c.p_patients),
            p_wilcoxon=_p(c.p_wilcoxon),
            is_shown=c.is_shown,
        )
        for c in ordered
    ]


def _pair(table: Table, comparison: Comparison) -> int:
    pairs = list(dict.fromkeys((c.first, c.second) for c in table.comparisons))
    return pairs.index((comparison.first, comparison.second))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdicts(table: Table) -> list[Verdict]:
    """Say for each pair how often the first is better, share by share: the answer in one table."""
    pairs = dict.fromkeys((c.first, c.second) for c in table.comparisons)
    shares = dict.fromkeys(column.share for column in table.columns)
    return [
        Verdict(
            first=name_of(first),
            second=name_of(second),
            colour=colour_of(first, table.strategies),
            counts=tuple(
                _count([c for c in table.comparisons if _is(c, first, second, share)])
                for share in shares
            ),
        )
        for first, second in pairs
    ]


def _is(comparison: Comparison, first: str, second: str, share: float) -> bool:
    same = (comparison.first, comparison.second) == (first, second)
    return same and comparison.column.share == share


def _count(found: list[Comparison]) -> Count:
    better = sum(c.is_shown and c.difference > 0 for c in found)
    worse = sum(c.is_shown and c.difference < 0 for c in found)
    return Count(
        better=better,
        worse=worse,
        open=len(found) - better - worse,
        mean=f"{np.mean([c.difference for c in found]):+.3f}" if found else "",
    )


def data(plan: Plan, pack: Pack) -> list[TaskData]:
    """Count what each task learns from."""
    return [_task_data(plan, pack, name) for name in plan.matrix.tasks]


def _task_data(plan: Plan, pack: Pack, name: str) -> TaskData:
    cells = [cell for cell in plan.finetune if cell.task == name]
    settings = cells[0].settings
    has = settings.labels is None or settings.labels in (*pack.label_sets, *pack.class_sets)
    split = {
        each: pack.select(split=each, labelled=settings.task, labels=settings.labels)
        if has
        else np.zeros(0, np.int64)
        for each in ("train", "validation", "test")
    }
    shares = tuple(
        _counted(pack, pack.share(split["train"], share, settings.seed, task=settings.task))
        if len(split["train"])
        else "none"
        for share in plan.matrix.shares
    )
    return TaskData(
        title=title_of(name),
        measure=MEASURE[settings.task],
        train=shares,
        validation=_counted(pack, split["validation"]),
        test=_counted(pack, split["test"]),
    )


def _counted(pack: Pack, found: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> str:
    return f"{len(found)} of {len(np.unique(pack.rows.patient[found]))}"


def tags(pack: Pack) -> str:
    """Say how much the tags of the pretraining frames say."""
    rows_ = pack.select(split="train")
    found = pack.tags()[rows_]
    kinds = len(np.unique(found[found.any(axis=1)], axis=0))
    used = [name for name, count in zip(TAGS, found.sum(axis=0), strict=True) if count]
    return (
        f"Pretraining frames: {len(rows_)} of {len(np.unique(pack.rows.patient[rows_]))} patients, "
        f"{pack.tagged(rows_)} with tags, in {kinds} different combinations of "
        f"{', '.join(used) or 'none'}."
    )


def costs(plan: Plan, out: Path, ledger: Ledger) -> list[Cost]:
    """Return what each pretraining cost, and each task's fine-tunings."""
    kinds: dict[str, list[Cell]] = {}
    for cell in plan.cells:
        if results.finished(out, cell) is not None:
            kinds.setdefault(_kind(cell), []).append(cell)
    return [_cost(what, cells, out, ledger) for what, cells in kinds.items()]


def seconds_of(out: Path, cell: Cell, ledger: Ledger) -> float:
    """Return how long a finished cell took; of one that was killed, its training alone."""
    seconds = ledger.seconds(cell)
    return runs.read(results.folder_of(out, cell)).seconds if seconds is None else seconds


def _kind(cell: Cell) -> str:
    encoder = cell.settings.encoder
    if isinstance(cell, FinetuneCell):
        share = percent(cell.settings.share)
        return f"Fine-tuning {encoder}: {title_of(cell.task).lower()}, {share}"
    return f"Pretraining {encoder}: {name_of(cell.strategy)}"


def _cost(what: str, cells: list[Cell], out: Path, ledger: Ledger) -> Cost:
    speeds = [
        point.frames_per_s for cell in cells for point in curves.read(results.folder_of(out, cell))
    ]
    seconds = [seconds_of(out, cell, ledger) for cell in cells]
    return Cost(
        what=what,
        cells=len(cells),
        epochs=str(cells[0].settings.epochs),
        images_per_s=f"{np.median(speeds):.0f}" if speeds else "",
        seconds=f"{np.mean(seconds):.1f}",
        total=f"{np.sum(seconds):.0f}",
    )

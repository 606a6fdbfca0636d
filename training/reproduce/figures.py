"""The figures that are drawn from numbers: boxplots, differences, learning curves."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.curves import Point
from training.reproduce.looks import (
    SOFT,
    TEXT,
    colour_of,
    name_of,
    percent,
    style,
    title_of,
)
from training.reproduce.table import Column, Comparison, Table

#: Inches.
WIDTH: Final = 11.0
_ROW: Final = 0.3

#: Learning curves of one strategy in one column, one list a seed.
Curves = Mapping[tuple[str, Column], Sequence[Sequence[Point]]]


def boxplots(table: Table, columns: Sequence[Column], measures: Mapping[str, str]) -> Figure:
    """Draw the bootstraps of every strategy, the papers' Figure 6: a column a task, a row a share.

    Parameters
    ----------
    table : Table
    columns : sequence of Column
        Of one encoder.
    measures : mapping
        What is measured, by task.
    """
    shares, tasks = _axes(columns)
    height = len(shares) * (0.7 + _ROW * len(table.strategies))
    with style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(len(shares), len(tasks), squeeze=False, sharey=True, sharex="col")
        for column in columns:
            place = shares.index(column.share), tasks.index(column.task)
            axes = panels[place]
            _boxes(axes, table, column)
            if place[0] == 0:
                axes.set_title(title_of(column.task), pad=18 if len(shares) > 1 else 6)
            axes.annotate(
                f"{percent(column.share)} of the training patients",
                (0, 1.015),
                xycoords="axes fraction",
                color=SOFT,
                fontsize=8,
            )
            if place[0] == len(shares) - 1:
                axes.set_xlabel(measures[column.task])
    return figure


def _boxes(axes: Axes, table: Table, column: Column) -> None:
    names = table.strategies
    for place, strategy in enumerate(names):
        score = table.scores.get((strategy, column))
        if score is None:
            continue
        colour = colour_of(strategy, names)
        line = {"color": colour, "linewidth": 1.1}
        boxes = axes.boxplot(
            [score.draws],
            positions=[place],
            orientation="horizontal",
            widths=0.56,
            whis=(2.5, 97.5),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": TEXT, "linewidth": 1.4},
            whiskerprops=line,
            capprops=line,
            manage_ticks=False,
        )
        boxes["boxes"][0].set(facecolor=colour, edgecolor=colour, alpha=0.55)
        seeds = list(score.by_seed.values())
        axes.plot(seeds, [place] * len(seeds), "o", color=TEXT, markersize=2.6, zorder=4)
    first = table.scores.get((names[0], column))
    if first is not None:
        axes.axvline(
            float(np.median(first.draws)), color=SOFT, linewidth=0.8, linestyle=(0, (4, 3))
        )
    axes.set_yticks(range(len(names)), [name_of(strategy) for strategy in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def differences(table: Table, encoder: str) -> Figure | None:
    """Draw how much each first strategy gains over the second, with 95 % of the bootstraps."""
    found = [c for c in table.comparisons if c.column.encoder == encoder]
    if not found:
        return None
    pairs = list(dict.fromkeys((c.first, c.second) for c in found))
    rows = sorted({c.column for c in found}, key=lambda c: (c.share, table.columns.index(c)))
    with style():
        figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(pairs), squeeze=False, sharey=True, sharex=True)[0]
        for axes, (first, second) in zip(panels, pairs, strict=True):
            chosen = [c for c in found if (c.first, c.second) == (first, second)]
            _forest(axes, chosen, rows, colour_of(first, table.strategies))
            axes.set_title(f"{name_of(first)}\nagainst {name_of(second)}", fontsize=9)
        panels[0].set_yticks(
            range(len(rows)), [f"{title_of(c.task)}, {percent(c.share)}" for c in rows]
        )
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        figure.supxlabel(
            "difference of the means, right: the first is better; bars hold 95 % of the bootstraps "
            "of patients; filled where frames, patients and all seeds say so",
            fontsize=8,
            color=SOFT,
        )
    return figure


def _forest(
    axes: Axes, comparisons: Sequence[Comparison], rows: Sequence[Column], colour: str
) -> None:
    axes.axvline(0, color=SOFT, linewidth=0.9)
    for each in comparisons:
        place = rows.index(each.column)
        axes.plot([each.low, each.high], [place, place], color=colour, linewidth=1.6)
        axes.plot(
            [each.difference],
            [place],
            "o",
            color=colour,
            markersize=5.5,
            markerfacecolor=colour if each.is_shown else "white",
            markeredgewidth=1.3,
        )
    axes.grid(visible=False, axis="y")


def finetuning(
    curves: Curves, table: Table, columns: Sequence[Column], measures: Mapping[str, tuple[str, str]]
) -> Figure:
    """Draw the measure on the validation frames over the epochs, mean and range of the seeds.

    Parameters
    ----------
    curves : mapping
    table : Table
    columns : sequence of Column
        Of one encoder.
    measures : mapping
        By task, the name of what is measured in the curves and in words.
    """
    shares, tasks = _axes(columns)
    with style():
        figure = Figure(figsize=(WIDTH, 0.5 + 1.9 * len(shares)), layout="constrained")
        panels = figure.subplots(len(shares), len(tasks), squeeze=False)
        for column in columns:
            place = shares.index(column.share), tasks.index(column.task)
            axes = panels[place]
            for strategy in table.strategies:
                key, words = measures[column.task]
                runs = curves.get((strategy, column), ())
                colour = colour_of(strategy, table.strategies)
                _band(axes, [_values(run, key) for run in runs], colour, strategy)
                axes.set_ylabel(f"{words}, validation")
            axes.set_title(f"{title_of(column.task)}, {percent(column.share)}")
            axes.set_xlabel("epoch" if place[0] == len(shares) - 1 else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, panels[0, 0])
    return figure


def _band(axes: Axes, runs: list[NDArray[np.float64]], colour: str, strategy: str) -> None:
    if not runs or not min(map(len, runs)):
        return
    rows = np.stack([run[: min(map(len, runs))] for run in runs])  # (seeds, epochs)
    epochs = np.arange(1, rows.shape[1] + 1)
    dashed = "--" if strategy.endswith("+F") else "-"
    axes.plot(
        epochs, rows.mean(axis=0), dashed, color=colour, linewidth=1.5, label=name_of(strategy)
    )
    if len(runs) > 1:
        low, high = rows.min(axis=0), rows.max(axis=0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)


def pretraining(runs: Mapping[str, Sequence[Point]], strategies: tuple[str, ...]) -> Figure | None:
    """Draw the losses of each pretraining, a panel each; their heights do not compare.

    Parameters
    ----------
    runs : mapping
        Epochs by strategy.
    strategies : tuple of str
        All of the matrix, for their colours.
    """
    if not runs:
        return None
    with style():
        figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
        panels = figure.subplots(1, len(runs), squeeze=False)[0]
        for axes, (strategy, points) in zip(panels, runs.items(), strict=True):
            epochs = [point.number for point in points]
            colour = colour_of(strategy, strategies)
            axes.plot(epochs, _values(points, "loss"), color=colour, label="validation loss")
            turns = [name for name in points[0].training if name.endswith("/loss")]
            for turn, dashes in zip(turns, ("--", ":", "-."), strict=False):
                values = [point.training[turn] for point in points]
                label = f"{turn.removesuffix('/loss')}, training"
                axes.plot(epochs, values, dashes, color=TEXT, linewidth=1.1, label=label)
            axes.set_title(name_of(strategy))
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(fontsize=7.5)
    return figure


def _axes(columns: Sequence[Column]) -> tuple[list[float], list[str]]:
    shares = list(dict.fromkeys(column.share for column in columns))
    return shares, list(dict.fromkeys(column.task for column in columns))


def _values(points: Sequence[Point], key: str) -> NDArray[np.float64]:
    return np.array([point.validation.get(key, np.nan) for point in points], np.float64)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))

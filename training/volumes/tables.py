"""The slides' tables of one folder of runs, as Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from training import runs
from training.volumes.scores import (
    ClassScore,
    LabelScore,
    Scores,
    by_class,
    by_label,
    contrast_by_sequence,
    read_scores,
    spacing_error,
    totals,
)

#: What is kept of the encoder while masks are learned: name, freeze, whether its weights are taken.
DEPTHS: Final[dict[str, tuple[int | None, bool]]] = {
    "all frozen": (4, True),
    "to block 3": (3, True),
    "to block 2": (2, True),
    "to block 1": (1, True),
    "weights only": (None, True),
    "from scratch": (None, False),
}
#: Those of which smaller shares of the data are tried.
OF_SHARES: Final = ("all frozen", "weights only", "from scratch")
SHARES: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
SERIES: Final = "series"


def run_name(depth: str, share: float) -> str:
    """Return the folder of a run of segmentation."""
    return f"{depth.replace(' ', '-')}-{round(100 * share)}"


def report(folder: Path, what: str) -> str:
    """Return the tables of all finished runs of a folder.

    Parameters
    ----------
    folder : Path
        Made by ``train volumes table``.
    what : str
        Of which volumes; stands on top.
    """
    naming = read_scores(folder / SERIES)
    lines = ["# What a series is, and what its weights are worth", "", what, ""]
    lines += _of_series(naming, runs.read(folder / SERIES).store_version)
    lines += ["## Segmentation, by what of the encoder is kept", ""]
    lines += _depths(folder)
    lines += _shares(folder)
    return "\n".join(lines)


def _of_series(naming: Scores, version: str) -> list[str]:
    targets, answered = naming.targets, naming.answers
    if targets is None or answered is None:
        return []
    lines = [
        f"{len(targets)} test volumes of {len(set(naming.patients))} patients, volumes of version "
        f"{version}. Each class is judged against the rest; `total` is the share of volumes with "
        "the right class, of regions that of volumes with every known one right.",
        "",
    ]
    right = totals(targets, answered)
    for head, classes in by_class(targets, answered).items():
        known, share = right[head]
        lines += [f"## {head.capitalize()}", ""]
        cells = map(_cells, classes)
        total = ("total", str(known), "", _number(share), "")
        lines += _rows(("class", "known", "of it", "accuracy", "AUC"), [*cells, total])
        if head == "contrast":
            within = contrast_by_sequence(targets, answered)
            lines += _rows(("of", "known", "with", "accuracy", "AUC"), map(_cells, within))
    off = f"{spacing_error(targets, answered):.2f}"
    return [*lines, f"Slice spacing: half of the volumes are off by a factor of {off} or less.", ""]


def _cells(one: ClassScore) -> tuple[str, ...]:
    return (
        *(one.name, str(one.known), str(one.positive)),
        *(_number(one.accuracy), _number(one.auc)),
    )


def _depths(folder: Path) -> list[str]:
    found = {depth: read_scores(folder / run_name(depth, 1.0)) for depth in DEPTHS}
    first = next(iter(found.values()))
    lines = [
        f"{len(first.rows)} test volumes of {len(set(first.patients))} patients. Mean IoU and "
        "median Dice of each label, over the volumes that have it or in which it was said.",
        "",
    ]
    head = [f"{one.name}, {what}" for one in by_label(first) for what in ("IoU", "Dice")]
    cells = ((depth, *_fits(by_label(scores))) for depth, scores in found.items())
    return [*lines, *_rows(("kept", *head), cells)]


def _fits(labels: Iterable[LabelScore]) -> Iterator[str]:
    for one in labels:
        yield from (_number(one.iou), _number(one.dice))


def _shares(folder: Path) -> list[str]:
    """Return a table a label."""
    rows = {
        depth: [by_label(read_scores(folder / run_name(depth, share))) for share in SHARES]
        for depth in OF_SHARES
    }
    names = [one.name for one in next(iter(rows.values()))[0]]
    percent = [f"{round(100 * share)} %" for share in SHARES]
    lines: list[str] = []
    for place, name in enumerate(names):
        lines += [f"## Segmentation of {name}, mean IoU by share of the training patients", ""]
        cells = (
            (depth, *(_number(labels[place].iou) for labels in found))
            for depth, found in rows.items()
        )
        lines += _rows(("kept", *percent), cells)
    return lines


def _rows(head: Iterable[str], cells: Iterable[tuple[str, ...]]) -> list[str]:
    names = list(head)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in cells), ""]


def _number(value: float) -> str:
    return f"{100 * value:.1f}" if np.isfinite(value) else "-"


def wanted() -> Mapping[str, tuple[str, float]]:
    """Return the runs of segmentation that the tables need, by folder, as (depth, share)."""
    cells = [(depth, 1.0) for depth in DEPTHS]
    cells += [(depth, share) for depth in OF_SHARES for share in SHARES if share < 1]
    return {run_name(depth, share): (depth, share) for depth, share in cells}

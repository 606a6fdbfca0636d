"""Which test frames the report shows, and what the networks made of them.

Frames are taken at fixed places of an order (10 %, 50 % and 90 % of the mean score over the
strategies), never by hand: the bad ones are shown with the good.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dicom_node.records import Task
from training import runs
from training.pack import Pack
from training.pack.rows import TAGS
from training.reproduce import inference, results
from training.reproduce.cells import FinetuneCell, Plan
from training.reproduce.gallery import Picture, confusion, gallery
from training.reproduce.looks import TEXT, colour_of, name_of
from training.reproduce.results import Result

#: Places in the order of the scores.
PLACES: Final = (0.9, 0.5, 0.1)
HOLES: Final = 4
#: Single frames of a classification, at least one a class.
SINGLES: Final = 6
#: Standard deviations that are black and white in z-scored frames.
_GREY: Final = (-1.5, 3.0)
_RIGHT, _WRONG = "#8fe39a", "#ff9c8a"


def inpainting(plan: Plan, out: Path, pack: Pack, encoder: str) -> Figure | None:
    """Draw filled holes of test frames, with and without tags: the papers' Figure 5."""
    rows = of_different_tags(pack, pack.select(split="test"))
    if not len(rows):
        return None
    found: dict[str, inference.Filled] = {}
    for cell in plan.pretrain:
        if cell.settings.encoder != encoder or cell.strategy in found:
            continue
        if results.finished(out, cell) is not None:
            filled = inference.fill(cell, results.folder_of(out, cell), pack.frames[rows])
            if filled is not None:
                found[cell.strategy] = filled
    if not found:
        return None
    one = next(iter(found.values()))
    columns = [one.hole, *(filled.filled for filled in found.values()), one.whole]
    tags = pack.tags()[rows]
    lines = {
        _label(n, tags[n]): [Picture(frame=column[n], limits=_GREY) for column in columns]
        for n in range(len(rows))
    }
    headings = ["what the network sees", *map(name_of, found), "what was there"]
    colours = [TEXT, *(colour_of(name, plan.strategies) for name in found), TEXT]
    return gallery(lines, headings, colours)


def segmentations(plan: Plan, out: Path, pack: Pack, shown: Sequence[Result]) -> Figure | None:
    """Draw the contours of reader and networks on test frames.

    Parameters
    ----------
    plan, out, pack
        The matrix, its folder, its frames.
    shown : sequence of Result
        Of one column and seed, one a strategy, as `choose` gives them.
    """
    if not shown or pack.masks is None:
        return None
    picked = at_places(shown)
    rows = _rows_of(pack, shown[0], picked)
    labels = pack.masks[rows]  # (n, H, W)
    lines: dict[str, list[Picture]] = {}
    for n, (row, place) in enumerate(zip(rows, PLACES, strict=False)):
        reader = Picture(frame=pack.frames[row], contours=labels[n], is_reader=True)
        lines[place_of(place)] = [reader]
    for result in shown:
        run = results.folder_of(out, result.cell)
        found = inference.probabilities(result.cell, run, pack, rows).argmax(axis=1)
        for n, line in enumerate(lines.values()):
            text = f"{result.score[picked[n]]:.2f}"
            contours = found[n].astype(np.uint8)
            frame = pack.frames[rows[n]]
            line.append(Picture(frame=frame, contours=contours, text=text))
    return gallery(lines, ["reader", *_names(shown)], [TEXT, *_colours(shown, plan)])


def classifications(plan: Plan, out: Path, pack: Pack, shown: Sequence[Result]) -> list[Figure]:
    """Draw what test frames were taken for: one table a strategy, and single frames.

    Parameters
    ----------
    plan, out, pack, shown
        As in `segmentations`.
    """
    if not shown:
        return []
    cell = shown[0].cell
    every = np.arange(len(shown[0].frame_id))
    rows = _rows_of(pack, shown[0], every)
    truth, classes = _truth(pack, cell, rows)
    said = {r.cell.strategy: _said(r, out, pack, rows) for r in shown}
    tables = {name: _counted(truth, found, len(classes)) for name, found in said.items()}
    picked = _of_each(truth)
    lines = [_verdicts(pack, rows, truth, found, classes, picked=picked) for found in said.values()]
    readers = [
        Picture(frame=pack.frames[rows[n]], text=f"reader: {classes[truth[n]]}") for n in picked
    ]
    pictures = {
        f"frame {n}": [reader, *(line[n - 1] for line in lines)]
        for n, reader in enumerate(readers, start=1)
    }
    return [
        confusion(tables, classes, plan.strategies),
        gallery(pictures, ["reader", *_names(shown)], [TEXT, *_colours(shown, plan)]),
    ]


def choose(
    plan: Plan, out: Path, found: Sequence[Result], *, encoder: str, task: str
) -> list[Result]:
    """Return the results to show of a task: smallest share, first seed, weights still there."""
    share, seed = min(plan.matrix.shares), plan.matrix.seeds[0]
    return [
        result
        for result in found
        if (result.cell.task, result.cell.settings.encoder) == (task, encoder)
        and (result.cell.settings.share, result.cell.settings.seed) == (share, seed)
        and (results.folder_of(out, result.cell) / runs.NETWORK).exists()
    ]


def at_places(shown: Sequence[Result]) -> NDArray[np.int64]:
    """Return the frames at `PLACES` of the mean score over the strategies, best first."""
    score = results.mean_of(np.stack([result.score for result in shown]))  # (N,)
    order = np.argsort(np.where(np.isfinite(score), score, np.inf), kind="stable")
    order = order[: int(np.isfinite(score).sum())]
    places = [round(place * (len(order) - 1)) for place in PLACES]
    return np.asarray(order[list(dict.fromkeys(places))], np.int64)


def _of_each(truth: NDArray[np.int64]) -> list[int]:
    """Return the first frames of each class, as many of each."""
    classes = np.unique(truth)
    each = max(1, SINGLES // max(1, len(classes)))
    return [int(n) for c in classes for n in np.flatnonzero(truth == c)[:each]]


def of_different_tags(pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return up to `HOLES` rows, each with other tags while there are some."""
    _, kind = np.unique(pack.tags()[rows], axis=0, return_inverse=True)
    again = np.array([np.sum(kind[:n] == kind[n]) for n in range(len(rows))])
    order = np.lexsort((np.arange(len(rows)), again))
    return rows[order[:HOLES]]


def _rows_of(pack: Pack, result: Result, picked: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of a pack that frames of a result are."""
    at = {frame_id: row for row, frame_id in enumerate(pack.rows.frame_id.tolist())}
    return np.array([at[frame_id] for frame_id in result.frame_id[picked].tolist()], np.int64)


def _truth(
    pack: Pack, cell: FinetuneCell, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if cell.settings.task is Task.QUALITY:
        return pack.rows.quality[rows].astype(np.int64), ("0", "1", "2", "3", "4")
    names = pack.class_sets[str(cell.settings.labels)]
    return pack.rows.class_index[rows].astype(np.int64), names


def _said(result: Result, out: Path, pack: Pack, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    run = results.folder_of(out, result.cell)
    return inference.classes(result.cell, inference.probabilities(result.cell, run, pack, rows))


def _counted(truth: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (truth, said), 1)
    return table


def _verdicts(
    pack: Pack,
    rows: NDArray[np.int64],
    truth: NDArray[np.int64],
    said: NDArray[np.int64],
    classes: Sequence[str],
    *,
    picked: Sequence[int],
) -> list[Picture]:
    return [
        Picture(
            frame=pack.frames[rows[n]],
            text=classes[said[n]],
            colour=_RIGHT if said[n] == truth[n] else _WRONG,
        )
        for n in picked
    ]


def _label(number: int, tags: NDArray[np.float32]) -> str:
    words = [name for name, bit in zip(TAGS, tags, strict=True) if bit]
    return f"{number + 1}: " + (",\n".join(words) if words else "no tag")


def place_of(place: float) -> str:
    """Say at the left of a row where its frame stands in the order, on two short lines."""
    return f"better than\n{100 * place:g} %"


def _names(shown: Sequence[Result]) -> list[str]:
    return [name_of(result.cell.strategy) for result in shown]


def _colours(shown: Sequence[Result], plan: Plan) -> list[str]:
    return [colour_of(result.cell.strategy, plan.strategies) for result in shown]

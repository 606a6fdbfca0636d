"""The table over folds as Markdown and as JSON."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from training import runs
from training.folds.finetuning import PEEKED
from training.folds.run import Cell, Results, Shop
from training.folds.scores import Scores, scores
from training.runs import RunInfo

MARKDOWN: Final = "folds.md"
JSON: Final = "folds.json"
_MODES: Final = {"last": "last three layers", "all": "everything"}


def write(shop: Shop, results: Results, *, command: str) -> Path:
    """Write the report of what is there, and return the Markdown.

    Parameters
    ----------
    shop : Shop
    results : Results
    command : str
        That makes it again.
    """
    known = list(_measured(shop, results))
    content = {
        "name": shop.table.name,
        "settings": shop.table.model_dump(mode="json"),
        "frames": shop.frames.pack.store_version,
        "cells": known,
        "pretrained": {
            name: [
                {"frames": info.store_version, "seconds": info.seconds} | info.counts
                for info in found
            ]
            for name, found in results.pretrained.items()
        },
        "left_out": results.left_out,
        "command": command,
    }
    runs.replace(shop.out / JSON, json.dumps(content, indent=1).encode())
    page = shop.out / MARKDOWN
    runs.replace(page, "\n".join(_page(shop, results, known, command)).encode())
    return page


def _measured(shop: Shop, results: Results) -> Iterator[dict[str, Any]]:
    """Yield what is known of each finished cell."""
    for cell, info in results.cells.items():
        found = scores_of(shop, cell)
        yield {
            "strategy": cell.strategy,
            "mode": cell.mode,
            "fold": cell.fold,
            "seed": cell.seed,
            "accuracy": found.accuracy,
            "f1": found.f1,
            PEEKED: info.metrics[PEEKED],
            "f1_of": found.f1_of,
            "recall_of": found.recall_of,
            "precision_of": found.precision_of,
            "epoch": info.best_epoch,
            "seconds": info.seconds,
        }


def scores_of(shop: Shop, cell: Cell) -> Scores:
    """Return what a finished cell is worth on its test fold."""
    with np.load(shop.out / cell.folder / runs.SCORES, allow_pickle=False) as found:
        return scores(found["truth"], found["predicted"], len(_classes(shop)))


def _page(
    shop: Shop, results: Results, known: Sequence[dict[str, Any]], command: str
) -> Iterator[str]:
    table = shop.table
    expected = len(table.strategies) * len(table.finetune) * len(shop.frames.names)
    yield from (f"# {table.title}", "", table.caption, "")
    yield (
        f"**{len(known)} of {expected * len(table.seeds)} fine-tunings finished; "
        f"{table.encoder}, {table.size}, {len(shop.frames.names)} folds, seeds "
        f"{', '.join(map(str, table.seeds))}; frames {shop.frames.pack.store_version}.**"
    )
    yield from ("", "```", command, "```", "")
    yield (
        "Mean over folds and seeds ± standard deviation of the folds (each the mean of its seeds) "
        "± that of the seeds whose folds are all there (each the mean of its folds), where there "
        "are several. The epoch is chosen on validation clips "
        "of the training folds; the last column takes the best epoch on the test fold itself, as "
        "published tables do: it is too good by that choice and to be compared with them alone."
    )
    yield ""
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "accuracy": lambda row: row["accuracy"],
        "F1": lambda row: row["f1"],
        "accuracy, best epoch on the test fold": lambda row: row[PEEKED],
    }
    yield from _lines(known, columns)
    yield from ("", "F1, and recall, of each class:", "")
    yield from _lines(known, _of_classes(_classes(shop)))
    yield from (
        "",
        "Seconds of one pretraining (all epochs, without validation), mean over folds, and of how "
        "many of a fold's training clips it used the label:",
        "",
    )
    for name, found in results.pretrained.items():
        yield f"- {name}: {np.mean([info.seconds for info in found]):.0f}{_labelled(found)}"
    for name, reason in results.left_out.items():
        yield f"- {name} is left out: {reason}"
    yield ""


def _labelled(found: Sequence[RunInfo]) -> str:
    """Say of how many clips a pretraining used the label, where it uses labels of clips."""
    if not all(info.counts for info in found):
        return ""
    used, clips = ([info.counts[key] for info in found] for key in ("labelled_clips", "clips"))
    return f"; labels of {_span(used)} of {_span(clips)} clips"


def _span(counts: Sequence[int]) -> str:
    return "-".join(map(str, sorted({min(counts), max(counts)})))


def _of_classes(names: Sequence[str]) -> dict[str, Callable[[dict[str, Any]], float]]:
    def column(key: str, place: int) -> Callable[[dict[str, Any]], float]:
        return lambda row: float(row[key][place])

    return {
        f"{name}, {what}": column(key, place)
        for place, name in enumerate(names)
        for what, key in (("F1", "f1_of"), ("recall", "recall_of"))
    }


def _lines(
    known: Sequence[dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], float]]
) -> Iterator[str]:
    yield f"| strategy | fine-tuned | {' | '.join(columns)} | n |"
    yield "|---" * (len(columns) + 3) + "|"
    for strategy, mode in dict.fromkeys((row["strategy"], row["mode"]) for row in known):
        rows = [row for row in known if (row["strategy"], row["mode"]) == (strategy, mode)]
        places = [(row["fold"], row["seed"]) for row in rows]
        cells = [
            spread(dict(zip(places, map(value, rows), strict=True))) for value in columns.values()
        ]
        yield f"| {strategy} | {_MODES[mode]} | {' | '.join(cells)} | {len(rows)} |"


def spread(values: Mapping[tuple[int, int], float]) -> str:
    """Return mean ± standard deviation of folds ± of seeds, in %.

    Parameters
    ----------
    values : mapping of (fold, seed) to float
        A seed that lacks folds counts in the mean and for its folds, and not as a seed.
    """
    of_folds: dict[int, list[float]] = defaultdict(list)
    of_seeds: dict[int, list[float]] = defaultdict(list)
    for (fold, seed), value in values.items():
        of_folds[fold].append(value)
        of_seeds[seed].append(value)
    whole = [found for found in of_seeds.values() if len(found) == len(of_folds)]
    means = ([np.mean(found) for found in groups] for groups in (of_folds.values(), whole))
    sds = [f" ± {100 * np.std(found, ddof=1):.1f}" for found in means if len(found) > 1]
    return f"{100 * np.mean(list(values.values())):.1f}{''.join(sds)}"


def _classes(shop: Shop) -> tuple[str, ...]:
    return tuple(shop.frames.pack.class_sets[shop.table.labels])

"""The table over folds as Markdown and as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from training import runs
from training.folds.finetuning import PEEKED
from training.folds.run import Cell, Results, Shop
from training.folds.scores import Scores, scores

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
        "Mean ± standard deviation over folds and seeds. The epoch is chosen on validation clips "
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
        "Seconds of one pretraining (all epochs, without validation), mean over folds:",
        "",
    )
    for name, seconds in results.pretrained.items():
        yield f"- {name}: {np.mean(seconds):.0f}"
    for name, reason in results.left_out.items():
        yield f"- {name} is left out: {reason}"
    yield ""


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
        cells = [spread([value(row) for row in rows]) for value in columns.values()]
        yield f"| {strategy} | {_MODES[mode]} | {' | '.join(cells)} | {len(rows)} |"


def spread(values: Sequence[float]) -> str:
    """Return the mean of parts of a whole and their standard deviation, in %."""
    sd = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{sd}"


def _classes(shop: Shop) -> tuple[str, ...]:
    return tuple(shop.frames.pack.class_sets[shop.table.labels])

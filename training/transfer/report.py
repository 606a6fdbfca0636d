"""The table of lesions as Markdown, and one line a detector as CSV."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from training import runs
from training.folds.report import spread
from training.runs import RunInfo
from training.transfer.run import Cell, Results, Shop

MARKDOWN: Final = "lesions.md"
CSV: Final = "lesions.csv"
#: name of a run's measure -> of its column
_COLUMNS: Final = {
    "test_box_ap": "box AP",
    "test_box_ap50": "box AP50",
    "test_box_ap75": "box AP75",
    "test_mask_ap": "mask AP",
    "test_mask_ap50": "mask AP50",
    "test_mask_ap75": "mask AP75",
    "validation_dice": "Dice, validation",
}


def write(shop: Shop, results: Results, *, command: str) -> Path:
    """Write the report of what is there, and return the Markdown.

    Parameters
    ----------
    shop : Shop
    results : Results
    command : str
        That makes it again.
    """
    runs.replace(shop.out / CSV, _csv(results).encode())
    page = shop.out / MARKDOWN
    runs.replace(page, "\n".join(_page(shop, results, command)).encode())
    return page


def _csv(results: Results) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["strategy", "seed", *_COLUMNS, "best_epoch", "seconds", "start"])
    for cell, info in results.cells.items():
        measures = [info.metrics[name] for name in _COLUMNS]
        table.writerow(
            [cell.strategy, cell.seed, *measures, info.best_epoch, info.seconds, info.start]
        )
    return text.getvalue()


def _page(shop: Shop, results: Results, command: str) -> Iterator[str]:
    table, detect = shop.table, shop.table.detect
    yield from (f"# {table.title}", "", table.caption, "")
    yield (
        f"**{len(results.cells)} of {len(shop.cells)} detectors finished; {table.encoder}, "
        f"{detect.size}, heads {detect.heads}, {detect.epochs} epochs, seeds "
        f"{', '.join(map(str, table.seeds))}; {_frames(shop)}.**"
    )
    yield from ("", "```", command, "```", "")
    yield (
        "Average precision in % on the test frames, mean over overlaps of 0.50 to 0.95, at 0.50 "
        "and at 0.75; mean ± standard deviation over seeds. The epoch is chosen by Dice on "
        "validation frames. Differences within the deviation are no order."
    )
    yield ""
    yield f"| start | {' | '.join(_COLUMNS.values())} | best epoch | training, s | n |"
    yield "|---" * (len(_COLUMNS) + 4) + "|"
    for name in table.strategies:
        found = [info for cell, info in results.cells.items() if cell.strategy == name]
        yield _line(name, found)
    yield ""
    for name, seconds in results.pretrained.items():
        yield f"- Pretraining {name}: {np.mean(seconds):.0f} s"
    for name, reason in results.left_out.items():
        yield f"- {name} is left out: {reason}"
    missing = [cell for cell in shop.cells if _is_missing(cell, results)]
    if missing:
        names = ", ".join(f"{cell.strategy} of seed {cell.seed}" for cell in missing)
        yield f"- Not run yet: {names}"
    yield ""


def _is_missing(cell: Cell, results: Results) -> bool:
    return cell not in results.cells and cell.strategy not in results.left_out


def _frames(shop: Shop) -> str:
    pack = shop.lesions
    labelled = pack.splits(labelled=shop.table.detecting(0).task, labels=shop.table.detect.labels)
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in labelled.items())
    return f"frames with masks: {counts}; store {pack.store_version}"


def _line(name: str, found: list[RunInfo]) -> str:
    if not found:
        return f"| {name} |" + " |" * (len(_COLUMNS) + 2) + " 0 |"
    cells = [spread([info.metrics[measure] for info in found]) for measure in _COLUMNS]
    epochs = ", ".join(str(info.best_epoch) for info in found)
    seconds = f"{np.mean([info.seconds for info in found]):.0f}"
    return f"| {name} | {' | '.join(cells)} | {epochs} | {seconds} | {len(found)} |"

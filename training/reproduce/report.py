"""The report of a matrix: one HTML file with everything in it, and Markdown with its figures."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dicom_node.errors import StoreError
from training import runs
from training.code_version import code_version
from training.pack import Pack
from training.reproduce import ledger, results, summary
from training.reproduce.cells import Cell, Plan
from training.reproduce.estimate import duration
from training.reproduce.illustrations import FIGURES, illustrations
from training.reproduce.looks import name_of, percent, title_of
from training.reproduce.table import ALPHA, Column, Table, tabulate
from training.runs import RunInfo

HTML: Final = "report.html"
MARKDOWN: Final = "report.md"


def write(plan: Plan, out: Path, pack: Pack | None, *, command: str) -> Path:
    """Write the report of what is finished; each file is there whole, or as it was before.

    Parameters
    ----------
    plan : Plan
        The matrix.
    out : Path
        Its folder.
    pack : Pack, optional
        The frames; without them, or with those of another version of the store, the report has no
        pictures of frames, does not count them, and says so.
    command : str
        How it was made, for whoever makes it again.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    StoreError
        When nothing is finished yet, or a file of a finished cell is damaged.
    """
    found = results.read(plan, out)
    done = [cell for cell in plan.cells if results.finished(out, cell) is not None]
    if not done:
        why = next(iter(ledger.read(out).failed().values()), "run it first")
        raise StoreError(f"{out}: no cell is finished, there is nothing to report: {why}")
    infos = [runs.read(results.folder_of(out, cell)) for cell in done]
    table = tabulate(plan, found)
    pack, without = _of_the_same_store(pack, infos)
    shown = list(illustrations(plan, out, pack, table, found))
    (out / FIGURES).mkdir(exist_ok=True)
    for figure in shown:
        runs.replace(out / figure.file, figure.content)
    context = _context(plan, out, pack, table, done)
    context |= _of_runs(infos) | {"figures": shown, "command": command, "without": without}
    environment = Environment(
        loader=PackageLoader("training.reproduce", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (MARKDOWN, HTML):
        text = environment.get_template(f"{name}.j2").render(context)
        runs.replace(out / name, text.encode())
    return out / HTML


def _context(
    plan: Plan, out: Path, pack: Pack | None, table: Table, done: list[Cell]
) -> dict[str, Any]:
    entries = ledger.read(out)
    names = {cell.name for cell in plan.cells} - {cell.name for cell in done}
    return {
        "matrix": plan.matrix,
        "blocks": [_block(table, e, group) for e, group in _by_encoder(table)],
        "contests": summary.contests(table),
        "verdicts": summary.verdicts(table),
        "alpha": ALPHA,
        "sources": sorted({n.source for each in table.paper.values() for n in each}),
        "notes": [n for each in table.paper.values() for n in each if n.note],
        "data": [] if pack is None else summary.data(plan, pack),
        "tags": "" if pack is None else summary.tags(pack),
        "shares": [percent(share) for share in plan.matrix.shares],
        "costs": summary.costs(plan, out, entries),
        "machines": entries.machines(),
        "seconds": sum(summary.seconds_of(out, cell, entries) for cell in done),
        "finished": len(done),
        "cells": len(plan.cells),
        "failed": _by_reason(entries.failed(), names),
        "left_out": _by_reason(entries.left_out(), names),
        "name_of": name_of,
        "title_of": title_of,
        "percent": percent,
        "duration": duration,
    }


def _of_the_same_store(pack: Pack | None, infos: list[RunInfo]) -> tuple[Pack | None, str]:
    """Return the frames if they are those of the runs, and what the report says without them."""
    learned = infos[0].store_version
    if pack is None:
        return None, f"no frames of the store {learned} were at hand; name --store or --pack"
    if pack.store_version != learned:
        return None, (
            f"the cells learned from the store {learned}, which is {pack.store_version} now; "
            "to see them, name a pack of that version by --pack"
        )
    return pack, ""


def _of_runs(infos: list[RunInfo]) -> dict[str, str]:
    return {
        "store_version": infos[0].store_version,
        "written_by": code_version(),
        "code_version": " and ".join(sorted({info.code_version for info in infos})),
        "last": max(str(info.finished_at)[:16] for info in infos),
    }


def _by_encoder(table: Table) -> Iterator[tuple[str, list[Column]]]:
    for encoder, group in groupby(table.columns, key=lambda column: column.encoder):
        yield encoder, list(group)


def _block(table: Table, encoder: str, columns: list[Column]) -> dict[str, Any]:
    """Return one encoder's part of the table."""
    return {
        "encoder": encoder,
        "tasks": [
            (title_of(task), len(list(group)))
            for task, group in groupby(columns, key=lambda column: column.task)
        ],
        "shares": [percent(column.share) for column in columns],
        "rows": summary.rows(table, columns),
    }


def _by_reason(reasons: dict[str, str], names: set[str]) -> list[tuple[str, list[str]]]:
    """Return the cells of each reason."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if name in names:
            found.setdefault(reason, []).append(name)
    return list(found.items())

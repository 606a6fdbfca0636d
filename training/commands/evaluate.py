"""``train evaluate``: what a run is worth on the test patients, and whether it beats another."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from training.commands import options
from training.evaluate import Compared, Measured, compare, evaluate
from training.statistics import DRAWS

app = typer.Typer(add_completion=False)

Run = Annotated[Path, typer.Argument(help="Folder of a run of fine-tuning.", metavar="RUN")]


@app.command()
def command(
    run: Run,
    *,
    against: Annotated[
        Path | None, typer.Option(help="Another run on the same test frames, to compare with.")
    ] = None,
    draws: options.Draws = DRAWS,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure a run on the test patients: mean and spread over draws of half of them.

    Frames of one patient are alike: what is drawn by patients is the spread to believe, what is
    drawn by frames is that of the papers.

    Example: dicom-node train evaluate runs/organs --against runs/organs-from-nothing
    """
    measured = evaluate(run, draws=draws, seed=seed)
    compared = compare(run, against, draws=draws, seed=seed) if against else {}
    if as_json:
        typer.echo(json.dumps(_plain(measured, compared), indent=2))
        return
    console = Console(highlight=False)
    console.print(_table(str(run), _COLUMNS, {n: _row(m) for n, m in measured.items()}))
    if against:
        rows = {name: _compared_row(both) for name, both in compared.items()}
        console.print(_table(f"{run} against {against}", _COMPARED_COLUMNS, rows))


_COLUMNS = ("measure", "mean", "sd frames", "sd patients", "frames", "patients")
_COMPARED_COLUMNS = (
    *("measure", "this", "other", "change"),
    *("p frames", "p patients", "p Wilcoxon"),
)


def _row(found: Measured) -> tuple[str, ...]:
    return (
        f"{found.by_frame.mean:.3f}",
        f"{found.by_frame.sd:.3f}",
        f"{found.by_patient.sd:.3f}",
        str(found.frames),
        str(found.patients),
    )


def _compared_row(found: Compared) -> tuple[str, ...]:
    return (
        f"{found.ours:.3f}",
        f"{found.theirs:.3f}",
        f"{found.ours - found.theirs:+.3f}",
        f"{found.p_frames:.3f}",
        f"{found.p_patients:.3f}",
        f"{found.p_wilcoxon:.3f}",
    )


def _table(title: str, columns: tuple[str, ...], rows: dict[str, tuple[str, ...]]) -> Table:
    table = Table(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, row in rows.items():
        table.add_row(name.replace("_", " "), *row)
    return table


def _plain(measured: dict[str, Measured], compared: dict[str, Compared]) -> dict[str, object]:
    """Return what a script reads; the draws themselves are left out."""
    measures = {
        name: {
            "frames": found.frames,
            "patients": found.patients,
            "mean": found.by_frame.mean,
            "sd_frames": found.by_frame.sd,
            "sd_patients": found.by_patient.sd,
        }
        for name, found in measured.items()
    }
    return {"measures": measures, "against": {n: asdict(found) for n, found in compared.items()}}

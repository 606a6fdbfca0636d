"""What a benchmark hands on: rows in ``build/bench/<name>.json`` and a table on the terminal."""

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

BUILD = Path("build") / "bench"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number. `ratio` is value / what it is held against; `goal` is the ratio's least."""

    #: ``load | receiver | quantity``, or a sentence where it is held against something
    row: str
    value: float | None
    unit: str
    against: str | None = None
    ratio: float | None = None
    goal: float | None = None
    met: bool | None = None
    #: lowest and highest of the rounds
    low: float | None = None
    high: float | None = None
    #: why there is no value, or what a reader must know of it
    why: str | None = None


def write(
    name: str, rows: Sequence[Row], *, command: str, note: str = "", folder: Path = BUILD
) -> Path:
    """Write the rows, and beside them how they came about."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    about = {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(folder),
        "note": note,
    }
    (folder / f"{name}.about").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return path


def machine(folder: Path) -> str:
    """Return the size of the machine and the kind of disk under `folder`."""
    memory_gib = psutil.virtual_memory().total / 2**30
    free_gib = shutil.disk_usage(folder).free / 2**30
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory_gib:.0f} GiB memory, "
        f"{_file_system(folder)} with {free_gib:.0f} GiB free, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def show_goals(rows: Sequence[Row], console: Console) -> None:
    """Print what is held against something."""
    table = Table(title="Held against", title_justify="left")
    for name in ("", "value", "against", "ratio", "goal", "met"):
        table.add_column(name, justify="left" if name in ("", "against") else "right")
    for row in rows:
        if row.against is not None:
            met = "" if row.met is None else ("yes" if row.met else "[bold red]no[/]")
            value = f"{number(row.value)} {row.unit}"
            table.add_row(row.row, value, row.against, number(row.ratio), number(row.goal), met)
    console.print(table)


def show_others(rows: Sequence[Row], console: Console) -> None:
    """Print what is held against nothing, a line each."""
    for row in rows:
        if row.against is None:
            console.print(f"{row.row}: {number(row.value)} {row.unit} {row.why or ''}")


def show_pivots(rows: Sequence[Row], console: Console) -> None:
    """Print the rows named ``a | b | c``: a table for each a, a line for each b."""
    for title, lines in pivots(rows).items():
        columns = list(dict.fromkeys(name for cells in lines.values() for name in cells))
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for name in columns:
            table.add_column(name, justify="right")
        for line, cells in lines.items():
            table.add_row(line, *(cell(cells.get(name)) for name in columns))
        console.print(table)


def pivots(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Row]]]:
    """Return the rows named ``a | b | c`` as ``{a: {b: {"c\\nunit": row}}}``."""
    tables: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        parts = row.row.split(" | ")
        if len(parts) == 3:
            title, line, column = parts
            tables.setdefault(title, {}).setdefault(line, {})[f"{column}\n{row.unit}"] = row
    return tables


def cell(row: Row | None) -> str:
    """Return a value with its spread."""
    if row is None or row.value is None:
        return "-"
    if row.low is None or row.high is None or row.low == row.high:
        return number(row.value)
    return f"{number(row.value)} ({number(row.low)}-{number(row.high)})"


def number(value: float | None) -> str:
    """Return a number in three figures."""
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def from_json(values: dict[str, Any]) -> Row:
    """Return a row of any benchmark; unknown keys are left out."""
    known = {name: values.get(name) for name in Row.__dataclass_fields__}
    known["row"], known["unit"] = str(values.get("row")), str(values.get("unit") or "")
    return Row(**known)  # type: ignore[arg-type]


def _file_system(folder: Path) -> str:
    place = folder.resolve()
    partitions = [
        one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)
    ]
    return max(partitions, key=lambda one: len(one.mountpoint)).fstype if partitions else "disk"

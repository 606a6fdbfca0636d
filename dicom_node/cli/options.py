"""What every command shares: its configuration, its console, its JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicom_node import config as configuration
from dicom_node.config import Config

#: ``--config FILE``
ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="The node's configuration.", show_default=True)
]
DEFAULT_CONFIG = Path("node.yaml")

#: ``--json``
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def load(path: Path) -> Config:
    """Read a configuration; faults end the command with exit status 2."""
    return configuration.load(path)


def print_json(value: Any) -> None:
    """Print a value for a script, on standard output and nothing else."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, columns: list[str], rows: list[list[str]], *, empty: str) -> None:
    """Print rows for a reader, or one sentence when there are none."""
    console = Console(highlight=False)
    if not rows:
        console.print(empty)
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)

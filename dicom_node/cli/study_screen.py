"""One study on one screen: where it is, then each step with its times."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.books.story import steps
from dicom_node.books.where import clock


def show(found: Mapping[str, Any]) -> None:
    """Print what `dicom_node.books.study.collect` returned."""
    console = Console(highlight=False)
    study = found["study"]
    console.print(Text(f"Study {study['study_instance_uid']}", style="bold"))
    console.print(
        Text(f"{found['where']['sentence'][:1].upper()}{found['where']['sentence'][1:]}.")
    )
    console.print()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for line in steps(found):
        table.add_row("" if line.step == before else line.step, line.at, Text(line.words))
        before = line.step
    console.print(table)
    console.print(
        Text(f"\nTimes are UTC, asked at {clock(study['asked_at'])}. --json has every object.")
    )

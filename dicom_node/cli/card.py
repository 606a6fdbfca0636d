"""A bundle's model card in a terminal."""

from rich.console import Console
from rich.table import Table

from dicom_node.bundle import Manifest
from dicom_node.bundle.card import parts


def print_card(manifest: Manifest) -> None:
    """Print what the model answers, for which images, from what it learned and how well."""
    console = Console(highlight=False)
    console.print(f"[bold]{manifest.name}[/bold] {manifest.version}, by {manifest.manufacturer}")
    for title, rows in parts(manifest):
        table = Table(
            title=title, title_justify="left", show_header=False, box=None, padding=(0, 2)
        )
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print()
        console.print(table)

"""``dicom-node demo``: the whole way of the data on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.demo import run_demo

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where all of it goes; made anew.")] = Path("demo"),
) -> None:
    """Receive, harvest, train, serve and deliver on phantoms and pydicom's own files.

    Example: dicom-node demo --folder demo
    """
    run_demo(folder)

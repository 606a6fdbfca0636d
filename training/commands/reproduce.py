"""``train reproduce``: a whole matrix, cell by cell, and its report."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table

from dicom_node.errors import ConfigError, StoreError
from training.commands import options
from training.commands.sources import open_pack
from training.config import Engine
from training.engine import launch
from training.pack import Pack
from training.reproduce import ledger, matrix, report, results, run
from training.reproduce.cells import Plan, plan
from training.reproduce.display import showing
from training.reproduce.estimate import Clock, duration, images
from training.reproduce.run import Workshop

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="MATRIX", help=f"One of {', '.join(matrix.names())}, or a file FILE.yaml."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs and the report; it goes on there.")],
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    imagenet: Annotated[
        Path | None, typer.Option(help="Folder of torchvision's files, as vgg16_bn-6c64b313.pth.")
    ] = None,
    accelerator: options.AcceleratorOrMatrix = None,
    devices: options.DevicesOrMatrix = None,
    precision: options.PrecisionOrMatrix = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and how long they will take.")
    ] = False,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Write the report of what is finished.")
    ] = False,
) -> None:
    """Reproduce a whole table: pretrain, fine-tune, test and report, cell by cell.

    Killed in between, the same command goes on where it was. A cell that fails is written down, the
    others go on, and the exit status is 1.

    Example: dicom-node train reproduce small --store node-data/store --out reproduction
    """

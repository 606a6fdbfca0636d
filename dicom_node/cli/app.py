"""The command line: each command, or group of commands, stands in its own file."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from dicom_node import __version__
from dicom_node.cli.lazy import LazyGroup


class _Commands(LazyGroup):
    modules: ClassVar[Mapping[str, str]] = {
        name: f"dicom_node.cli.{module}"
        for name, module in {
            "serve": "serve",
            "status": "status",
            "check": "checks",
            "send-test": "send_test",
            "backup": "backup",
            "restore": "restore",
            "queue": "queue",
            "page": "page",
            "harvest": "harvest",
            "bundles": "bundles",
            "labels": "labels",
            "store": "store",
            "train": "train",
            "demo": "demo",
        }.items()
    }


app = typer.Typer(
    name="dicom-node",
    cls=_Commands,
    help="A DICOM node beside the PACS: it harvests ultrasound weak labels and serves models back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicom-node {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run a command of the node."""

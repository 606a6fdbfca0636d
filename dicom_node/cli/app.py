"""The commands, one function each; groups of commands stand in their own files."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__, log, node
from dicom_node.cli import bundles, checks, labels, queue, status, store
from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, load
from dicom_node.demo import TRAINING, has_training, run_demo

app = typer.Typer(
    name="dicom-node",
    help="A DICOM node beside the PACS: it harvests ultrasound weak labels and serves models back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(queue.app, name="queue")
app.add_typer(bundles.app, name="bundles")
app.add_typer(labels.app, name="labels")
app.add_typer(store.app, name="store")
app.command()(status.status)
app.command()(checks.check)


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


@app.command()
def serve(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    Example: dicom-node serve --config /etc/dicom-node/node.yaml
    """
    log.configure()
    node.serve(load(config))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where all of it goes; made anew.")] = Path("demo"),
) -> None:
    """Receive, harvest, train, serve and deliver on phantoms and pydicom's own files.

    Example: dicom-node demo --folder demo
    """
    run_demo(folder)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Train on the weak-label store and export a bundle (in a checkout; needs torch).

    Example: dicom-node train finetune --config node.yaml --task quality
    """
    if not has_training():
        typer.echo(
            "dicom-node: this installation only serves: training needs a checkout of the "
            "repository, installed with 'pip install --editable . --group train'",
            err=True,
        )
        raise typer.Exit(2)
    # its own process: the node itself never loads torch
    finished = subprocess.run([*TRAINING, *context.args], check=False)
    raise typer.Exit(finished.returncode)

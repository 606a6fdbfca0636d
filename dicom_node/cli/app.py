"""The command line: each command, or group of commands, stands in its own file."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from dicom_node import __version__
from dicom_node.cli.lazy import LazyGroup, Listed


class _Commands(LazyGroup):
    listed: ClassVar[Mapping[str, Listed]] = {
        "serve": Listed("dicom_node.cli.serve", "Run the node until SIGTERM or Ctrl-C."),
        "status": Listed(
            "dicom_node.cli.status",
            "Say where a study is, with times; without one, what needs a look and the latest "
            "studies.",
        ),
        "check": Listed(
            "dicom_node.cli.checks",
            "Check configuration, machine, databases, bundles and peers; exit status 1 on any "
            "fault.",
        ),
        "send-test": Listed(
            "dicom_node.cli.send_test",
            "Send a phantom study and wait for its results; exit status 1 when some do not come.",
        ),
        "backup": Listed(
            "dicom_node.cli.backup",
            "Back the node up while it runs; the copy is read again before this ends.",
        ),
        "restore": Listed(
            "dicom_node.cli.restore",
            "Put a backup into the empty node.data of a configuration; every digest is verified.",
        ),
        "queue": Listed(
            "dicom_node.cli.queue",
            "Deliveries that wait or failed, and jobs that run, failed or were cancelled.",
        ),
        "page": Listed("dicom_node.cli.page", "The page for people."),
        "harvest": Listed(
            "dicom_node.cli.harvest",
            "Pull studies of an archive, or take a folder's files; exit status 1 when something "
            "lacks.",
        ),
        "bundles": Listed("dicom_node.cli.bundles", "The model bundles that this node serves."),
        "labels": Listed(
            "dicom_node.cli.labels",
            "Weak labels from the scanner's words, and labels of readers.",
        ),
        "store": Listed("dicom_node.cli.store", "The de-identified weak-label store."),
        "train": Listed(
            "dicom_node.cli.train",
            "Train on the weak-label store and export a bundle (in a checkout; needs torch).",
        ),
        "demo": Listed(
            "dicom_node.cli.demo",
            "Receive, harvest, train, serve and deliver on phantoms and pydicom's own files.",
        ),
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

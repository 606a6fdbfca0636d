"""The command ``dicom-node``: parses, calls, prints, sets the exit status.

0 is good, 1 means that what was asked for failed or a check found something, 2 is wrong use.
"""

import sys

import typer

from dicom_node.cli.app import app
from dicom_node.errors import ConfigError, NodeError

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ConfigError as exc:
        _complain(exc)
        sys.exit(2)
    except NodeError as exc:
        _complain(exc)
        sys.exit(1)


def _complain(error: NodeError) -> None:
    typer.secho(f"dicom-node: {error}", fg=typer.colors.RED, err=True)

"""``dicom-node restore``: a backup becomes the data folder of a node."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, ConfigFile, load
from dicom_node.node.restore import KeySource
from dicom_node.node.restore import restore as put_back

app = typer.Typer(add_completion=False)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="As 'dicom-node backup' wrote it.")],
    key: Annotated[
        Path | None, typer.Option(help="pseudonym.key, where the backup is without it.")
    ] = None,
    lost_key: Annotated[
        bool, typer.Option("--lost-key", help="Go on with a new key; see docs/operations.md.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Put a backup into the empty node.data of a configuration; every digest is verified.

    Example: dicom-node restore /mnt/backup/2026-01-01 --key pseudonym.key --config node.yaml
    """
    settings = load(config)
    about = put_back(settings, folder, KeySource(path=key, is_lost=lost_key))
    typer.echo(
        f"{settings.node.data}: {about.files} files, {about.bytes / 2**30:.2f} GiB, as of "
        f"{about.taken_at}; start it with 'dicom-node serve --config {config}', and never the old "
        "node beside it"
    )

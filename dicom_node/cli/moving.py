"""``dicom-node store move``: the store's catalogue goes to a server, or comes back into a file."""

from dataclasses import asdict
from typing import Annotated, Final

import typer

from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.node.layout import Layout
from dicom_node.node.locks import owned
from dicom_node.store import moving

#: What ``--to`` calls the file in the store's folder.
_FILE: Final = "file"


def move(
    to: Annotated[
        str, typer.Option("--to", help="'file', or postgresql://USER@HOST/DATABASE of a server.")
    ],
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Move the store's catalogue; no picture is touched. The node must not run.

    Every row is compared before the old catalogue goes. It may be killed and given again.

    Example: dicom-node store move --to postgresql://node@db.hospital.example/store
    """
    settings, url = load(config), None if to == _FILE else to
    with owned(settings.node.data):
        moved = moving.move(Layout(settings.node.data).store, url)
    if as_json:
        print_json(asdict(moved))
        return
    rows = [[name, str(count)] for name, count in moved.rows.items()]
    print_table(f"Moved to {moved.where}", ["table", "rows"], rows, empty="")
    typer.echo(f"version {moved.version}, as before")
    if settings.harvest.catalogue != url:
        typer.echo(f"Set harvest.catalogue to {url or 'null'}, so that 'dicom-node check' agrees.")

"""``dicom-node labels``: what the harvest learned, and what it could not map."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import reader_labels
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.harvest import PrivateNotes, import_labels, load_map
from dicom_node.harvest.opening import NOTES
from dicom_node.node.layout import Layout
from dicom_node.store import WeakLabelStore

app = typer.Typer(
    help="Weak labels from the scanner's words, and labels of readers.\n\n"
    "Example: dicom-node labels coverage --config node.yaml",
    add_completion=False,
)

app.command()(reader_labels.readers)
app.command()(reader_labels.codes)

#: How many row numbers an import names before it only counts.
SHOWN_FAULTS = 20


@app.command()
def unmapped(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List study descriptions that no map knows, the most frequent first.

    They are what somebody typed and may hold anything: for the eyes of the site only. Map them
    with a CSV (study_description,groups) named by harvest.site_labels.

    Example: dicom-node labels unmapped --config node.yaml
    """
    settings = load(config)
    label_map = load_map(settings.harvest.label_map, settings.harvest.site_labels)
    with _notes(settings) as notes:
        seen = [row for row in notes.descriptions(label_map) if not row.is_mapped]
    if as_json:
        print_json([{"study_description": row.description, "studies": row.studies} for row in seen])
        return
    print_table(
        "Study descriptions without groups",
        ["study description", "studies"],
        [[row.description, str(row.studies)] for row in seen],
        empty="every study description is mapped",
    )


@app.command()
def coverage(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Count the stored frames by group and geometry.

    Example: dicom-node labels coverage --config node.yaml
    """
    folder = _store_of(load(config).node.data)
    table: dict[str, dict[str, int]] = {}
    with WeakLabelStore(folder) as store:
        for frame in store.frames():
            for group in sorted(frame.groups) or ["no group"]:
                row = table.setdefault(group, {})
                row[frame.geometry.value] = row.get(frame.geometry.value, 0) + 1
    if as_json:
        print_json(table)
        return
    geometries = sorted({geometry for row in table.values() for geometry in row})
    print_table(
        "Frames by group and geometry",
        ["group", *geometries],
        [[g, *(str(row.get(x, 0)) for x in geometries)] for g, row in sorted(table.items())],
        empty="the store is empty",
    )


@app.command("import")
def take_in(
    file: Annotated[
        Path, typer.Argument(help="CSV: sop_instance_uid,frame,quality,mask[,labels,class,reader]")
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Attach readers' labels to harvested frames; exit status 1 when a row could not be used.

    Example: dicom-node labels import labels.csv --config node.yaml
    """
    data = load(config).node.data
    _store_of(data)
    count = import_labels(file, data=data)
    typer.echo(f"{count.imported} labels imported, {len(count.faults)} rows not used")
    for fault in count.faults[:SHOWN_FAULTS]:
        typer.echo(f"{file.name}:{fault.row}: {fault.reason}", err=True)
    if count.faults:
        raise typer.Exit(1)


def _store_of(data: Path) -> Path:
    folder = Layout(data).store
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no store yet; harvest studies with 'dicom-node serve' first")
    return folder


@contextmanager
def _notes(config: Config) -> Iterator[PrivateNotes]:
    path = config.node.data / NOTES
    if not path.exists():
        raise ConfigError(f"{path}: nothing harvested yet; start the node with 'dicom-node serve'")
    notes = PrivateNotes(path)
    yield notes
    notes.close()

"""``dicom-node store``: what the weak-label store holds, and whether it could identify anybody."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dicom_node.cli.erase import PACKS, Exports, accept, erase, places_of
from dicom_node.cli.moving import move
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.cli.pulling import showing
from dicom_node.errors import ConfigError
from dicom_node.harvest import load_tables
from dicom_node.harvest.vocabulary import vocabulary
from dicom_node.node.layout import Layout
from dicom_node.pull.reconciled import Told
from dicom_node.store import WeakLabelStore, audit, is_store
from dicom_node.store.export_audit import audit_exports
from dicom_node.store.pack_audit import audit_packs
from dicom_node.store.volume_counts import counted

app = typer.Typer(
    help="The de-identified weak-label store.\n\nExample: dicom-node store info --config node.yaml",
    add_completion=False,
)
app.command()(erase)
app.command()(accept)
app.command()(move)


@app.command()
def info(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Count what is in the store: frames, and volumes of series with what is known of them.

    Example: dicom-node store info --config node.yaml
    """
    with WeakLabelStore(_folder(config)) as store:
        book = store.volumes
        found = asdict(store.info())
        series = asdict(counted(book.all(), book.size_bytes()))
    if as_json:
        print_json(found | {"series": series})
        return
    if found["frames"] or not series["volumes"]:
        print_table("Store", ["what", "count"], list(_rows(found)), empty="")
    if series["volumes"]:
        print_table("CT and MR series", ["what", "count"], list(_rows(series)), empty="")


def _rows(found: Mapping[str, Any], before: str = "") -> Iterator[list[str]]:
    for key, value in found.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _rows(value, f"{name} ")
        else:
            yield [name, str(value)]


@app.command("audit")
def look_through(
    packs: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder that holds packs for training; may be repeated."),
    ] = None,
    exports: Exports = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Scan store, packs and exports for anything that could identify; exit 1 if there is something.

    Shards of a bucket are fetched for that, one by one. What cannot be reached is a finding.

    Example: dicom-node store audit --config node.yaml
    """
    settings, folder = load(config), _folder(config)
    places = places_of(settings, exports)
    findings = audit(folder, vocabulary(load_tables(settings.harvest)))
    for place in (settings.node.data / PACKS, *(packs or [])):
        findings += audit_packs(place, folder)
    # what a script reads is on standard output
    with showing(Console(stderr=True, highlight=False)) as show:
        findings += audit_exports(
            places,
            folder,
            lambda name, done, total: show(Told(step=f"export {name}", done=done, total=total)),
        )
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(
            "Audit",
            ["where", "what"],
            [[finding.where, finding.what] for finding in findings],
            empty="nothing found that could identify anybody",
        )
    if findings:
        raise typer.Exit(1)


def _folder(config: Path) -> Path:
    folder = Layout(load(config).node.data).store
    if not is_store(folder):
        raise ConfigError(f"{folder}: no store yet; harvest studies with 'dicom-node serve' first")
    return folder

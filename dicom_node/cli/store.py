"""``dicom-node store``: what the weak-label store holds, and whether it could identify anybody."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli.erase import PACKS, accept, erase
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
from dicom_node.store.export_places import checked
from dicom_node.store.pack_audit import audit_packs

app = typer.Typer(
    help="The de-identified weak-label store.\n\nExample: dicom-node store info --config node.yaml",
    add_completion=False,
)
app.command()(erase)
app.command()(accept)
app.command()(move)


@app.command()
def info(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Count what is in the store.

    Example: dicom-node store info --config node.yaml
    """
    with WeakLabelStore(_folder(config)) as store:
        found = asdict(store.info())
    if as_json:
        print_json(found)
        return
    rows = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += [[f"{key} {part}".replace("_", " "), str(n)] for part, n in value.items()]
        else:
            rows.append([key.replace("_", " "), str(value)])
    print_table("Store", ["what", "count"], rows, empty="")


@app.command("audit")
def look_through(
    packs: Annotated[
        list[Path] | None,
        typer.Option(help="Another folder that holds packs for training; may be repeated."),
    ] = None,
    exports: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder or s3://BUCKET/PREFIX that 'train shards' exported to, beside those of "
            "harvest.exports; may be repeated.",
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Scan store, packs and exports for anything that could identify; exit 1 if there is something.

    Shards of a bucket are fetched for that, one by one. What cannot be reached is a finding.

    Example: dicom-node store audit --config node.yaml
    """
    settings, folder = load(config), _folder(config)
    places = [checked(one) for one in (*settings.harvest.exports, *(exports or []))]
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

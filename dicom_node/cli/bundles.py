"""``dicom-node bundles``: the models in the folder, as cards."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.bundle import Bundle, Manifest
from dicom_node.cli.card import print_card
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json, print_table
from dicom_node.errors import BundleError, ConfigError

app = typer.Typer(
    help="The model bundles that this node serves.\n\n"
    "Example: dicom-node bundles list --config node.yaml",
    add_completion=False,
)

BundleFile = Annotated[Path, typer.Argument(help="An .onnx bundle.", exists=True, dir_okay=False)]


@app.command("list")
def show_all(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the bundles of the configured folder; exit status 1 when one is refused.

    Example: dicom-node bundles list --config node.yaml
    """
    folder = load(config).bundles
    if folder is None:
        raise ConfigError(f"{config}: bundles: not set, this node only harvests; name a folder")
    found = [(path, _open(path)) for path in sorted(folder.glob("*.onnx"))]
    records = [
        {
            "file": path.name,
            "name": "" if isinstance(bundle, str) else bundle.name,
            "version": "" if isinstance(bundle, str) else bundle.version,
            "task": "" if isinstance(bundle, str) else bundle.task.value,
            "digest": "" if isinstance(bundle, str) else bundle.digest[:12],
            "fault": bundle if isinstance(bundle, str) else "",
        }
        for path, bundle in found
    ]
    if as_json:
        print_json(records)
    else:
        print_table(
            "Bundles",
            ["file", "name", "version", "task", "digest", "fault"],
            [list(record.values()) for record in records],
            empty=f"no .onnx file in {folder}; train one with 'dicom-node train'",
        )
    if any(record["fault"] for record in records):
        raise typer.Exit(1)


@app.command()
def show(file: BundleFile, as_json: AsJson = False) -> None:
    """Print a bundle's model card, or its manifest with --json.

    Example: dicom-node bundles show bundles/view-quality.onnx
    """
    manifest = Bundle(file).manifest
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
    else:
        print_card(manifest)


@app.command()
def check(file: BundleFile) -> None:
    """Verify a bundle's digest and load it; exit status 1 when it is refused.

    Example: dicom-node bundles check bundles/view-quality.onnx
    """
    manifest = Bundle(file).manifest
    typer.echo(f"{file.name}: sound, {manifest.name} {manifest.version}, digest {manifest.digest}")


def _open(path: Path) -> Manifest | str:
    try:
        return Bundle(path).manifest
    except BundleError as exc:
        return str(exc)

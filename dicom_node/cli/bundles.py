"""``dicom-node bundles``: the models in the folder, as cards."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from dicom_node import log
from dicom_node.bundle import Bundle
from dicom_node.cli.card import print_card
from dicom_node.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile, load, print_json
from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.infer import Model, Models
from dicom_node.infer.hosting import host_for

app = typer.Typer(
    help="The model bundles that this node serves.\n\n"
    "Example: dicom-node bundles list --config node.yaml",
    add_completion=False,
)

_COLUMNS: Final = ("file", "name", "version", "task", "digest", "role", "runs on", "fault")
BundleFile = Annotated[Path, typer.Argument(help="An .onnx bundle.", exists=True, dir_okay=False)]
Served = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Its model server (infer.url) has to answer the same."),
]


@app.command("list")
def show_all(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the bundles of the configured folder; exit status 1 when one is refused.

    Example: dicom-node bundles list --config node.yaml
    """
    settings = load(config)
    if settings.bundles is None:
        raise ConfigError(f"{config}: bundles: not set, this node only harvests; name a folder")
    with looked_through(settings) as models:
        records = [_record(model) for model in models.all()]
        records += [dict.fromkeys(_COLUMNS, "") | refusal for refusal in _refusals(models)]
    records.sort(key=lambda record: record["file"])
    if as_json:
        print_json(records)
    elif records:
        for record in records:
            _print_bundle(record)
    else:
        typer.echo(f"no .onnx file in {settings.bundles}; train one with 'dicom-node train'")
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
def check(file: BundleFile, config: Served = None) -> None:
    """Verify a bundle's digest and load it; exit status 1 when it is refused.

    With --config the model server of that node must run the same.

    Example: dicom-node bundles check bundles/view-quality.onnx
    """
    bundle = Bundle(file)
    manifest = bundle.manifest
    typer.echo(
        f"{file.name}: sound, {manifest.name} {manifest.version}, digest {manifest.digest}, "
        f"runs on {bundle.provider.removesuffix('ExecutionProvider')}"
    )
    if config is not None:
        typer.echo(f"{_checked_server(file, config)} answers the same")


def _print_bundle(record: Mapping[str, str]) -> None:
    """Print a bundle on two lines, in which nothing that is copied is broken."""
    if record["fault"]:
        reason = record["fault"].removeprefix(f"{record['file']}: ")
        typer.echo(f"{record['file']}: refused\n  {reason}")
        return
    typer.echo(
        f"{record['file']}: {record['role']}\n  {record['name']} {record['version']}, "
        f"{record['task']}, digest {record['digest']}, runs on {record['runs on']}"
    )


@contextmanager
def looked_through(config: Config) -> Iterator[Models]:
    """Load the models as the node does, under its limits; what the log would say is left out."""
    log.configure(level=logging.CRITICAL)
    with closing(Models(config.bundles, config.infer)) as models:
        models.all()
        yield models


def _checked_server(file: Path, config: Path) -> str:
    settings = load(config).infer
    if settings.url is None:
        raise ConfigError(f"{config}: infer.url: not set, the node itself runs its models")
    with closing(host_for(settings)) as host:
        host.load(file)
    return settings.url


def _record(model: Model) -> dict[str, str]:
    manifest = model.manifest
    values = (
        model.path.name,
        manifest.name,
        manifest.version,
        manifest.task.value,
        manifest.digest[:12],
        f"{model.role.value}: {model.why}" if model.why else model.role.value,
        model.provider.removesuffix("ExecutionProvider"),
        "",
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _refusals(models: Models) -> list[dict[str, str]]:
    return [{"file": name, "fault": why} for name, why in models.refused().items()]

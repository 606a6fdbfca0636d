"""The command ``python -m training``: offline training on the weak-label store.

Exit status 0 is good, 1 means that training or export failed, 2 is wrong use.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node import __version__, codes, config
from dicom_node.bundle import Code, Input, Label, Manifest, Parity, Provenance, Routing
from dicom_node.errors import ConfigError, NodeError
from dicom_node.records import GROUPS, CodedConcept, Geometry, Task
from training import checkpoint
from training.config import PRESETS, FinetuneSettings, Preset
from training.export import write_bundle
from training.finetune import ORGANS, Finetuned, finetune
from training.progress import reporting

MANUFACTURER = "dicom-node"
NAMES = {Task.SEGMENTATION: "liver-kidney", Task.QUALITY: "view-quality"}
#: Organ to its code.
CODES = {
    "liver": codes.LIVER,
    "kidney": codes.KIDNEY,
    "peritoneal cavity": codes.PERITONEAL_CAVITY,
}
#: Morison's pouch, the view that quality is labelled for, has no code of its own in DICOM.
MORISON = "liver,kidney,peritoneal cavity"

app = typer.Typer(
    name="training",
    help="Train on the weak-label store and export .onnx bundles for the node.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, kw_only=True)
class Bundling:
    """What a bundle says of itself that training does not know."""

    out: Path
    name: str
    routing: Routing
    every_nth_frame: int
    finding_sites: tuple[str, ...]


@app.callback()
def _options() -> None:
    """Train on the weak-label store and export .onnx bundles for the node."""


@app.command("finetune")
def finetune_command(  # noqa: PLR0913 (one parameter an option)
    *,
    task: Annotated[Task, typer.Option(help="What the model answers.")],
    out: Annotated[Path, typer.Option(help="The bundle to write, FILE.onnx.")],
    store: Annotated[Path | None, typer.Option(help="Folder of the weak-label store.")] = None,
    node: Annotated[
        Path, typer.Option("--config", "-c", help="The node whose store is meant without --store.")
    ] = Path("node.yaml"),
    name: Annotated[str | None, typer.Option(help="Name of the model: a-z, 0-9, -.")] = None,
    preset: Annotated[
        Preset, typer.Option(help="Input size and epochs, where not given by themselves.")
    ] = Preset.FULL,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training frames.")] = None,
    batch_size: Annotated[int, typer.Option(help="Frames a step.")] = 8,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    height: Annotated[int | None, typer.Option(help="Rows of the network's input.")] = None,
    width: Annotated[int | None, typer.Option(help="Columns of the network's input.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read frames.")] = 0,
    start: Annotated[
        Path | None, typer.Option(help="Weights (.pt) of an earlier run to start from.")
    ] = None,
    groups: Annotated[
        str, typer.Option(help=f"Only for these study groups, by comma: {', '.join(GROUPS)}.")
    ] = "",
    geometries: Annotated[
        str, typer.Option(help=f"Only for these probes, by comma: {', '.join(Geometry)}.")
    ] = "",
    every_nth_frame: Annotated[int, typer.Option(help="Analyse every n-th frame of a cine.")] = 1,
    sites: Annotated[
        str, typer.Option(help=f"What a scored view shows, by comma: {', '.join(CODES)}.")
    ] = MORISON,
) -> None:
    """Train one model on the labelled frames of a store and write it as a bundle.

    The best weights stand beside it as FILE.pt, for --start of a later run.

    Example: python -m training finetune --store node-data/store --task segmentation
    --out bundles/liver-kidney.onnx
    """
    scale = PRESETS[preset, task]
    settings = FinetuneSettings(
        # the node keeps its store there
        store=store or config.load(node).node.data / "store",
        task=task,
        epochs=scale.epochs if epochs is None else epochs,
        batch_size=batch_size,
        seed=seed,
        height=scale.height if height is None else height,
        width=scale.width if width is None else width,
        workers=workers,
        learning_rate=scale.learning_rate,
        start=start,
    )
    bundling = Bundling(
        out=_checked_out(out),
        name=_checked_name(name or NAMES[task]),
        routing=Routing(
            groups=_listed(groups, GROUPS, "--groups"),
            geometries=tuple(map(Geometry, _listed(geometries, Geometry, "--geometries"))),
        ),
        every_nth_frame=every_nth_frame,
        finding_sites=_listed(sites, CODES, "--sites"),
    )
    run(settings, bundling, Console(highlight=False))


def run(settings: FinetuneSettings, bundling: Bundling, console: Console) -> None:
    """Train, export, and say what came out."""
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.launch()
    with reporting(console, f"fine-tune {settings.task}", settings.epochs) as after_epoch:
        tuned = finetune(settings, fabric, after_epoch)
    bundling.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(bundling.out.with_suffix(".pt"), tuned.network.state_dict())
    describe = partial(_describe, settings, bundling, tuned, datetime.now(UTC))
    manifest = write_bundle(bundling.out, tuned.network, tuned.sample, describe)
    for measure, value in manifest.metrics.items():
        console.print(f"{measure} {value:.3f}")
    console.print(
        f"{bundling.out}: {manifest.name} {manifest.version}, from {tuned.training_frames} frames; "
        f"torch and onnxruntime differ by {manifest.parity.max_abs_difference:.1e} at most",
        soft_wrap=True,
    )


def _describe(
    settings: FinetuneSettings,
    bundling: Bundling,
    tuned: Finetuned,
    now: datetime,
    parity: Parity,
) -> Manifest:
    is_quality = settings.task is Task.QUALITY
    return Manifest(
        name=bundling.name,
        version=f"{now:%Y%m%d.%H%M%S}",
        manufacturer=MANUFACTURER,
        task=settings.task,
        labels=() if is_quality else _labels(),
        finding_sites=tuple(_code(CODES[site]) for site in bundling.finding_sites if is_quality),
        routing=bundling.routing,
        input=Input(height=settings.height, width=settings.width),
        every_nth_frame=bundling.every_nth_frame,
        provenance=Provenance(
            created_at=now.isoformat(timespec="seconds"),
            code_version=__version__,
            recipe=settings.recipe(),
            seed=settings.seed,
            store_version=tuned.store_version,
            training_frames=tuned.training_frames,
        ),
        parity=parity,
        metrics=tuned.metrics,
    )


def _labels() -> tuple[Label, ...]:
    category = _code(codes.ANATOMICAL_STRUCTURE)
    return tuple(
        Label(value=value, category=category, type=_code(CODES[organ]))
        for value, organ in enumerate(ORGANS, start=1)
    )


def _code(concept: CodedConcept) -> Code:
    return Code(value=concept.value, scheme=concept.scheme, meaning=concept.meaning)


def _checked_out(out: Path) -> Path:
    if out.suffix != ".onnx":
        raise ConfigError(f"--out {out}: the node serves files that end in .onnx; name it so")
    return out


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
        raise ConfigError(f"--name {name!r}: give 1 to 64 of a-z, 0-9 and -, the first no -")
    return name


def _listed(text: str, known: Iterable[str], option: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in found:
        if part not in tuple(known):
            raise ConfigError(f"{option} {part!r}: give some of {', '.join(known)}")
    return found


def main() -> None:
    """Run the command line."""
    try:
        app()
    except NodeError as exc:
        Console(stderr=True, highlight=False).print(
            f"training: {exc}", style="red", markup=False, soft_wrap=True
        )
        sys.exit(2 if isinstance(exc, ConfigError) else 1)


if __name__ == "__main__":
    main()

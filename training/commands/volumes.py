"""``train volumes``: learn from CT and MR series."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node import config
from dicom_node.errors import StoreError
from dicom_node.store.volumes import SHAPE
from training import runs
from training.commands import options
from training.commands.fitting import step_of, within_memory
from training.commands.telling import say_finished, telling
from training.config import SeriesSettings, VolumeSegmentSettings
from training.engine import first_alone, launch
from training.loop import Batch
from training.runs import RunInfo
from training.volumes.exporting import export
from training.volumes.running import name_series, segment
from training.volumes.source import VolumeSet, check_masks, from_folder, from_store
from training.volumes.tables import DEPTHS, SERIES, report, wanted
from training.volumes.targets import COLUMNS
from training.volumes.tasks import NamingSeries, SegmentingVolumes

app = typer.Typer(
    help="Learn from CT and MR series.\n\n"
    "Example: dicom-node train volumes pretrain --out runs/series",
    no_args_is_help=True,
    add_completion=False,
)

_SMALLER: Final = "a larger --shrink, a smaller --width or --depth"
Out = Annotated[Path, typer.Option(help="Folder of the run; named again, it goes on.")]
Masks = Annotated[
    Path, typer.Option(help="Folder of PATIENT.npz, each with 'volume' and 'mask' (uint8).")
]
Depth = Annotated[int | None, typer.Option(help="Layers of the encoder: 10, 18, 34 or 50.")]
Width = Annotated[int | None, typer.Option(help="Channels of its stem; 64 are the published ones.")]
BatchSize = Annotated[int | None, typer.Option(help="Volumes a step, of all devices together.")]
Shrink = Annotated[int | None, typer.Option(help="Average blocks of 1, 2 or 4 voxels a side.")]


@app.command()
def pretrain(  # noqa: PLR0913 (one parameter an option)
    *,
    out: Out,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    depth: Depth = None,
    width: Width = None,
    shrink: Shrink = None,
    epochs: options.Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "auto",
) -> None:
    """Pretrain a 3D encoder by what the headers of series say.

    Example: dicom-node train volumes pretrain --out runs/series --config node.yaml
    """
    settings = options.settings(
        SeriesSettings,
        depth=depth,
        width=width,
        shrink=shrink,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    engine = options.engine(accelerator=accelerator, devices=devices, precision=precision)
    _name(settings, _stored(node, store), launch(engine), out)


@app.command("segment")
def segment_command(  # noqa: PLR0913 (one parameter an option)
    *,
    masks: Masks,
    out: Out,
    start: Annotated[
        Path | None, typer.Option(help="A run of 'volumes pretrain'; none: random weights.")
    ] = None,
    freeze: Annotated[
        int | None, typer.Option(help="Keep the encoder up to this block as it is; 4 is all.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="Of the training patients.")] = None,
    labels: Annotated[int | None, typer.Option(help="Values of the masks, with 0.")] = None,
    depth: Depth = None,
    width: Width = None,
    shrink: Shrink = None,
    epochs: options.Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "auto",
) -> None:
    """Learn masks of volumes; the network has the shape of the run that it starts from.

    Example: dicom-node train volumes segment --masks lits --start runs/series --freeze 4
    --out runs/liver
    """
    settings = options.settings(
        VolumeSegmentSettings,
        **_shape(start) | options.given({"depth": depth, "width": width, "shrink": shrink}),
        freeze=freeze,
        share=share,
        labels=labels,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    engine = options.engine(accelerator=accelerator, devices=devices, precision=precision)
    _segment(settings, from_folder(masks), launch(engine), out, start)


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(help="Folder of NIfTI files.", metavar="FOLDER")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for --masks: one NAME.npz a pair.")],
) -> None:
    """Make volumes with masks of CT as NIfTI: volume-NAME.nii with segmentation-NAME.nii.

    Example: dicom-node train volumes convert LITS --out lits
    """
    from training.volumes import nifti  # noqa: PLC0415 (no other command needs nibabel)

    console = Console(highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    largest: list[int] = []
    for name, volume, mask in nifti.pairs(folder):
        try:
            largest.append(nifti.convert(volume, mask, out / f"{name}.npz"))
        except StoreError as exc:
            console.print(f"left out: {exc}", soft_wrap=True)
    if not largest:
        raise StoreError(f"{folder}: no pair of which a volume can be made; see above")
    console.print(f"{out}: {len(largest)} volumes, --labels {max(largest) + 1}", soft_wrap=True)


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run on volumes.", metavar="RUN")],
    *,
    out: Annotated[Path, typer.Option(help="The file to write, FILE.onnx.")],
) -> None:
    """Write the network of a run, if onnxruntime answers what torch does.

    Example: dicom-node train volumes export runs/series --out series.onnx
    """
    parity = export(run, out)
    Console(highlight=False).print(
        f"{out}: torch and onnxruntime differ by {parity.max_abs_difference:.1e} at most",
        soft_wrap=True,
    )


@app.command()
def table(  # noqa: PLR0913 (one parameter an option)
    *,
    masks: Masks,
    out: Annotated[Path, typer.Option(help="Folder of the runs and the report.")],
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    what: Annotated[str, typer.Option(help="Of which volumes; stands on top of the report.")] = "",
    depth: Depth = None,
    width: Width = None,
    shrink: Shrink = None,
    labels: Annotated[int | None, typer.Option(help="Values of the masks, with 0.")] = None,
    epochs: options.Epochs = None,
    segment_epochs: options.Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    precision: options.Precision = "auto",
) -> None:
    """Make the slides' tables: what series are, and segmentation by what is kept and by share.

    A finished run is not repeated. Example: dicom-node train volumes table --masks lits --out
    tables --config node.yaml
    """
    engine = options.engine(accelerator=accelerator, devices=devices, precision=precision)
    fabric = launch(engine)
    shared = {
        "depth": depth,
        "width": width,
        "shrink": shrink,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    naming = options.settings(SeriesSettings, **shared, epochs=epochs)
    segmenting = options.settings(
        VolumeSegmentSettings, **shared, labels=labels, epochs=segment_epochs
    )
    # before the pretraining, which takes the longest
    segmented = from_folder(masks)
    first_alone(fabric, lambda: check_masks(segmented, segmenting.labels))
    made = first_alone(fabric, lambda: _finished(out / SERIES, naming))
    if made is None:
        _name(naming, _stored(node, store), fabric, out / SERIES)
    elif fabric.is_global_zero:
        Console(highlight=False).print(
            f"{out / SERIES}: finished with volumes of version {made.store_version}, and taken as "
            "it is; name another --out to learn from those of now",
            soft_wrap=True,
        )
    for name, (kept, share) in wanted().items():
        freeze, takes_weights = DEPTHS[kept]
        settings = segmenting.model_copy(update={"freeze": freeze, "share": share})
        start = out / SERIES if takes_weights else None
        _segment(settings, segmented, fabric, out / name, start)
    text = report(out, what)
    first_alone(fabric, lambda: runs.replace(out / "report.md", text.encode()))
    Console(highlight=False).print(str(out / "report.md"))


def _stored(node: Path, store: Path | None) -> VolumeSet:
    return from_store(store or config.load(node).node.data / config.STORE)


def _finished(run: Path, settings: SeriesSettings) -> RunInfo | None:
    """Return a finished run of these settings: what the store holds by now does not change it."""
    if not (run / runs.INFO).exists():
        return None
    info = runs.read(run)
    return info if info.finished_at is not None and info.settings == settings else None


def _shape(start: Path | None) -> dict[str, int]:
    """Return the shape of the encoder of a run."""
    if start is None:
        return {}
    settings = runs.read(start).settings
    if not isinstance(settings, SeriesSettings):
        return {}
    return {"depth": settings.depth, "width": settings.width, "shrink": settings.shrink}


def _name(settings: SeriesSettings, volumes: VolumeSet, fabric: Fabric, out: Path) -> None:
    console = Console(highlight=False)

    def work() -> RunInfo:
        with telling(console, fabric, out, "name series", settings.epochs) as told:
            return name_series(settings, volumes, fabric, run=out, after_epoch=told)

    step = trial_step(fabric, partial(NamingSeries, settings), settings.shrink)
    info = within_memory(work, step, settings.batch_size, _SMALLER)
    if fabric.is_global_zero:
        say_finished(console, out, info)


def _segment(
    settings: VolumeSegmentSettings,
    volumes: VolumeSet,
    fabric: Fabric,
    out: Path,
    start: Path | None,
) -> None:
    console = Console(highlight=False)

    def work() -> RunInfo:
        with telling(console, fabric, out, f"segment {out.name}", settings.epochs) as told:
            return segment(settings, volumes, fabric, run=out, start=start, after_epoch=told)

    step = trial_step(fabric, partial(SegmentingVolumes, settings), settings.shrink)
    info = within_memory(work, step, settings.batch_size, _SMALLER)
    if fabric.is_global_zero:
        say_finished(console, out, info)


def trial_step(
    fabric: Fabric, make_task: Callable[[], NamingSeries | SegmentingVolumes], shrink: int
) -> Callable[[int], None]:
    """Return one step of a run, on volumes of nothing."""
    side = tuple(size // shrink for size in SHAPE)

    def batch(task: NamingSeries | SegmentingVolumes, volumes: int) -> Batch:
        frames = torch.zeros(volumes, 1, *side, dtype=torch.uint8)
        if isinstance(task, NamingSeries):
            return {"frames": frames, "targets": torch.zeros(volumes, len(COLUMNS))}
        return {"frames": frames, "mask": torch.zeros(volumes, *side, dtype=torch.int64)}

    return step_of(fabric, make_task, batch, lambda: ())

"""``train detect``: Mask R-CNN on the masks of readers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node.records import Task
from training import detect
from training.batches import held_bytes
from training.commands import options
from training.commands.fitting import step_of, within_memory
from training.commands.presets import DETECT
from training.commands.sources import cache_of, launched, open_pack
from training.commands.telling import say_finished, telling
from training.config import DetectSettings
from training.engine import prepare
from training.loop import Batch
from training.memory import SMALLER
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB
from training.runs import RunInfo
from training.tasks import labels as labelled

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    out: Annotated[Path, typer.Option(help="Folder of the run; named again, it goes on.")],
    labels: Annotated[
        str | None, typer.Option(help="Label set; needed where the store has several.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a pretraining to start from, or its encoder.pt.")
    ] = None,
    imagenet: Annotated[
        Path | None, typer.Option(help="Published weights (.pth) to start from.")
    ] = None,
    share: Annotated[float, typer.Option(help="Part of the training patients, 0.05 for 5 %.")] = 1,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    cache: options.CacheFolder = None,
    cache_gib: options.CacheGib = DEFAULT_GIB,
    encoder: options.Encoder = DETECT["encoder"],
    encoder_width: options.EncoderWidth = 16,
    height: options.Height = None,
    width: options.Width = None,
    epochs: options.Epochs = DETECT["epochs"],
    batch_size: options.BatchSize = DETECT["batch_size"],
    learning_rate: Annotated[float, typer.Option(help="Of SGD.")] = DETECT["learning_rate"],
    heads: Annotated[
        Literal["full", "slim"],
        typer.Option(help="What stands on the encoder; slim: for a CPU and small frames."),
    ] = "full",
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
) -> None:
    """Train Mask R-CNN to find and outline what masks show; average precision on test patients.

    Example: dicom-node train detect --labels breast-lesion --start runs/uscl --out runs/lesions
    """
    size = options.size(height, width, DETECT["size"])
    console = Console(highlight=False)
    # torchvision's detector has operations that bfloat16 does not know
    fabric = prepare(options.engine(accelerator=accelerator, devices=devices, precision="32-true"))
    frames = launched(
        fabric,
        partial(
            open_pack,
            console,
            size,
            node=node,
            store=store,
            folder=pack,
            cache=cache_of(cache, cache_gib),
            run=out,
        ),
    )
    task = Task.SEGMENTATION
    settings = options.settings(
        DetectSettings,
        task=task,
        labels=labels or labelled.only_set(frames, task),
        encoder=encoder,
        encoder_width=encoder_width,
        size=size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        heads=heads,
        share=share,
        seed=seed,
    )
    learn = partial(
        detect.detect, settings, frames, fabric, run=out, start=start, imagenet=imagenet
    )

    def work() -> RunInfo:
        with telling(console, fabric, out, "detect", settings.epochs) as after_epoch:
            return learn(after_epoch=after_epoch)

    smaller = f"--heads slim, {SMALLER}"
    info = within_memory(work, trial_step(settings, frames, fabric), settings.batch_size, smaller)
    if fabric.is_global_zero:
        say_finished(console, out, info)


def trial_step(settings: DetectSettings, pack: Pack, fabric: Fabric) -> Callable[[int], None]:
    """Return one step of the run, on dark frames with a lesion each."""
    height, width = settings.size.height, settings.size.width

    def make_task() -> detect.Detection:
        network = detect.build(settings, len(labelled.names(pack, settings)))
        return detect.Detection(network, settings)

    def batch(_: detect.Detection, frames: int) -> Batch:
        mask = torch.zeros(frames, height, width, dtype=torch.int64)
        mask[:, : height // 2, : width // 2] = 1
        return {"frames": torch.zeros(frames, 1, height, width, dtype=torch.uint8), "mask": mask}

    def held() -> list[int]:
        rows = labelled.splits(pack, settings)
        return [held_bytes(pack, of_split, ("mask",)) for of_split in rows.values()]

    return step_of(fabric, make_task, batch, held)

"""``train detect``: Mask R-CNN on the masks of readers."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from dicom_node.records import Task
from training import detect
from training.commands import options
from training.commands.presets import DETECT
from training.commands.sources import launched, open_pack
from training.commands.telling import say_finished, telling
from training.config import DetectSettings
from training.engine import prepare
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
        Path | None, typer.Option(help="torchvision's weights (.pth) to start from.")
    ] = None,
    share: Annotated[float, typer.Option(help="Part of the training patients, 0.05 for 5 %.")] = 1,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
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
        fabric, partial(open_pack, console, size, node=node, store=store, folder=pack, run=out)
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
    with telling(console, fabric, out, "detect", settings.epochs) as after_epoch:
        info = detect.detect(
            settings,
            frames,
            fabric,
            run=out,
            start=start,
            imagenet=imagenet,
            after_epoch=after_epoch,
        )
    if fabric.is_global_zero:
        say_finished(console, out, info)

"""``train finetune``: one network for one task, from a pretraining or from nothing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node.records import Task
from training import tasks
from training.batches import held_bytes
from training.commands import options
from training.commands.fitting import step_of, within_memory
from training.commands.presets import PRESETS, Preset
from training.commands.sources import cache_of, launched, open_pack
from training.commands.telling import say_bundle, say_finished, telling
from training.config import EncoderName, FinetuneSettings, Size
from training.engine import prepare
from training.export import Bundling, check, export
from training.finetune import finetune
from training.loop import Batch
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB
from training.runs import RunInfo
from training.tasks import Supervised
from training.tasks import labels as labelled

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    task: Annotated[Task, typer.Option(help="What the network answers.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; named again, it goes on.")],
    labels: Annotated[
        str | None, typer.Option(help="Label set or class set; needed where the store has several.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a pretraining to start from, or its encoder.pt.")
    ] = None,
    imagenet: Annotated[
        Path | None, typer.Option(help="Published weights (.pth) to start from.")
    ] = None,
    share: Annotated[float, typer.Option(help="Part of the training patients, 0.05 for 5 %.")] = 1,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Keep the encoder as it is (+F in the papers).")
    ] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="Write a bundle as well, FILE.onnx; see 'train export'.")
    ] = None,
    every_nth_frame: options.EveryNthFrame = 1,
    preset: Annotated[
        Preset, typer.Option(help="What is not given: full is the papers', demo is quick.")
    ] = Preset.FULL,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    cache: options.CacheFolder = None,
    cache_gib: options.CacheGib = DEFAULT_GIB,
    encoder: Annotated[EncoderName | None, typer.Option(help="The network below.")] = None,
    encoder_width: options.EncoderWidth = 16,
    height: options.Height = None,
    width: options.Width = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    pace: Annotated[
        str | None, typer.Option(help="constant, or one_cycle: up to the rate and down again.")
    ] = None,
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    nodes: options.Nodes = 1,
    precision: options.Precision = "auto",
    compile_networks: options.Compile = False,
    deterministic: options.Deterministic = False,
) -> None:
    """Fine-tune a network on labelled frames, measure it on the test patients.

    Example: dicom-node train finetune --task segmentation --start runs/ce_dcm --out runs/organs
    --bundle bundles/liver-kidney.onnx
    """
    chosen = PRESETS[preset, task]
    size = options.size(height, width, chosen.get("size", Size()))
    bundling = Bundling(every_nth_frame=every_nth_frame)
    if bundle is not None:
        check(bundle, bundling, task)
    console = Console(highlight=False)
    engine = options.engine(
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        precision=precision,
        compile=compile_networks,
        deterministic=deterministic,
    )
    fabric = prepare(engine)
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
    given = {
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "pace": pace,
    }
    settings = options.settings(
        FinetuneSettings,
        task=task,
        labels=labels or labelled.only_set(frames, task),
        encoder_width=encoder_width,
        share=share,
        freeze=freeze,
        seed=seed,
        **{**chosen, **options.given(given), "size": size},
    )
    learn = partial(
        finetune,
        settings,
        frames,
        fabric,
        run=out,
        start=start,
        imagenet=imagenet,
        compile_networks=engine.compile,
    )

    def work() -> RunInfo:
        what = f"fine-tune {task}"
        with telling(console, fabric, out, what, settings.epochs) as after_epoch:
            return learn(after_epoch=after_epoch)

    info = within_memory(work, trial_step(settings, frames, fabric), settings.batch_size)
    if fabric.is_global_zero:
        say_finished(console, out, info)
        if bundle is not None:
            say_bundle(console, bundle, export(out, bundle, bundling))


def trial_step(settings: FinetuneSettings, pack: Pack, fabric: Fabric) -> Callable[[int], None]:
    """Return one step of the run, on frames of nothing."""
    make_task = partial(tasks.build, settings, labelled.names(pack, settings))
    height, width = settings.size.height, settings.size.width
    shape = (height, width) if settings.task is Task.SEGMENTATION else ()

    def batch(task: Supervised, frames: int) -> Batch:
        return {
            "frames": torch.zeros(frames, 1, height, width, dtype=torch.uint8),
            task.target: torch.zeros(frames, *shape, dtype=torch.int64),
        }

    def held() -> list[int]:
        rows, targets = labelled.splits(pack, settings), (make_task().target,)
        return [held_bytes(pack, rows[split], targets) for split in ("train", "validation")]

    return step_of(fabric, make_task, batch, held)

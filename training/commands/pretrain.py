"""``train pretrain``: an encoder from all frames, without a label of anybody."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from lightning_fabric import Fabric
from rich.console import Console

from training import pretexts, recipes
from training.batches import held_bytes
from training.commands import options
from training.commands.fitting import step_of, within_memory
from training.commands.presets import PRETRAIN
from training.commands.sources import cache_of, launched, open_pack
from training.commands.telling import say_finished, telling
from training.config import PretrainSettings, Size
from training.engine import prepare
from training.loop import Batch
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB
from training.pretexts import Pretext
from training.pretrain import SPLITS, pretrain
from training.runs import RunInfo

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    recipe: Annotated[
        str, typer.Option(help=f"One of {', '.join(recipes.names())}, or a file FILE.yaml.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; named again, it goes on.")],
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    cache: options.CacheFolder = None,
    cache_gib: options.CacheGib = DEFAULT_GIB,
    encoder: options.PretrainEncoder = None,
    encoder_width: options.EncoderWidth = 16,
    height: options.Height = None,
    width: options.Width = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    learning_rate: options.LearningRate = None,
    discriminator_learning_rate: Annotated[
        float | None, typer.Option(help="Of the discriminator, where the recipe has one.")
    ] = None,
    seed: options.Seed = 0,
    accelerator: options.Accelerator = "auto",
    devices: options.Devices = 1,
    nodes: options.Nodes = 1,
    precision: options.Precision = "auto",
    compile_networks: options.Compile = False,
    deterministic: options.Deterministic = False,
) -> None:
    """Pretrain an encoder on all frames but those of the test patients.

    Example: dicom-node train pretrain --recipe ce_dcm --out runs/ce_dcm --config node.yaml
    """
    strategy = recipes.load(recipe)
    preset = PRETRAIN.get(strategy.pretext, {})
    given = options.given(
        {
            "encoder": encoder,
            "encoder_width": encoder_width,
            "size": options.size(height, width, preset.get("size", Size())),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "discriminator_learning_rate": discriminator_learning_rate,
            "seed": seed,
        }
    )
    settings = options.settings(PretrainSettings, strategy=strategy, **{**preset, **given})
    engine = options.engine(
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        precision=precision,
        compile=compile_networks,
        deterministic=deterministic,
    )
    # before the store is read: a strategy without a pretext is refused here
    pretexts.build(settings)
    console = Console(highlight=False)
    fabric = prepare(engine)
    frames = launched(
        fabric,
        partial(
            open_pack,
            console,
            settings.size,
            node=node,
            store=store,
            folder=pack,
            cache=cache_of(cache, cache_gib),
            run=out,
        ),
    )

    def work() -> RunInfo:
        what = f"pretrain {settings.strategy.name}"
        with telling(console, fabric, out, what, settings.epochs) as after_epoch:
            return pretrain(
                settings,
                frames,
                fabric,
                run=out,
                compile_networks=engine.compile,
                after_epoch=after_epoch,
            )

    info = within_memory(work, trial_step(settings, frames, fabric), settings.batch_size)
    if fabric.is_global_zero:
        say_finished(console, out, info)


def trial_step(settings: PretrainSettings, pack: Pack, fabric: Fabric) -> Callable[[int], None]:
    """Return one step of the run, on the first of its frames."""
    rows = {split: pack.select(split=split) for split in SPLITS}

    def batch(pretext: Pretext, frames: int) -> Batch:
        drawn = pretexts.batches(
            pretext,
            pack,
            rows["train"],
            batch_size=frames,
            seed=settings.seed,
            training=True,
            rank=0,
            world=1,
            device=fabric.device,
            held_bytes=0,
        )
        return next(iter(drawn.epoch(1)))

    def held() -> list[int]:
        return [held_bytes(pack, of_split) for of_split in rows.values()]

    return step_of(fabric, partial(pretexts.build, settings), batch, held)

"""``train lesions``: a table of what starts are worth to a detector, from clips and a store."""

from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from training.commands import options
from training.commands.fitting import table_within_memory
from training.commands.sources import launched, open_pack
from training.commands.telling import again, speaking, telling
from training.engine import first_alone, prepare
from training.folds import frames
from training.transfer import matrix, report
from training.transfer.run import Results, Shop, run

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    name: Annotated[str, options.table("TABLE", matrix.names())],
    index: options.ClipIndex,
    out: options.TableFolder,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    imagenet: options.PublishedFolder = None,
    accelerator: options.TableAccelerator = None,
) -> None:
    """Pretrain on clips by each strategy, find lesions from each: average precision by start.

    Killed in between, the same command goes on where it was.

    Example: dicom-node train lesions lesions_small --index ultrasound/index.csv --out lesions
    """
    table = matrix.load(name)
    # torchvision's detector has operations that bfloat16 does not know
    given = options.given({"accelerator": accelerator}) | {"precision": "32-true"}
    console = Console(highlight=False)
    clips = frames.read(index, labels=table.labels, size=table.size, dataset=table.dataset)
    fabric = prepare(options.engine(**(table.engine.model_dump() | given)))
    size = table.detect.size
    lesions = launched(
        fabric, partial(open_pack, console, size, node=node, store=store, folder=pack)
    )
    shop = Shop(
        table=table,
        clips=clips,
        lesions=lesions,
        out=out,
        fabric=fabric,
        imagenet=imagenet,
        say=speaking(console, fabric),
        telling=partial(telling, console, fabric),
    )

    def after_cell(results: Results) -> None:
        first_alone(fabric, lambda: report.write(shop, results, command=again()))

    table_within_memory(
        partial(run, shop, after_cell), "pretrain.batch_size, detect.batch_size or size"
    )
    shop.say(f"{out / report.MARKDOWN}: the report")

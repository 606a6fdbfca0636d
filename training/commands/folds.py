"""``train folds``: a table over folds of whole clips, from an index of pictures."""

from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.errors import ConfigError
from training.commands import options
from training.commands.fitting import table_within_memory
from training.commands.telling import again, speaking
from training.engine import first_alone, launch
from training.folds import frames, matrix, report
from training.folds.run import Results, Shop, run

app = typer.Typer(add_completion=False)


@app.command()
def command(
    *,
    name: Annotated[str, options.table("TABLE", matrix.names())],
    index: options.ClipIndex,
    out: options.TableFolder,
    imagenet: options.PublishedFolder = None,
    seeds: Annotated[
        str | None, typer.Option(help="By comma, as 0,1,2, instead of the table's.")
    ] = None,
    accelerator: options.TableAccelerator = None,
) -> None:
    """Pretrain on all folds but one, fine-tune, and test on that one; each fold in turn.

    Killed in between, the same command goes on where it was.

    Example: dicom-node train folds pocus_small --index ultrasound/index.csv --out tables/pocus
    """
    table = matrix.load(name)
    if seeds is not None:
        table = table.model_copy(update={"seeds": _seeds(seeds)})
    engine = table.engine.model_dump() | options.given({"accelerator": accelerator})
    console = Console(highlight=False)
    found = frames.read(index, labels=table.labels, size=table.size, dataset=table.dataset)
    fabric = launch(options.engine(**engine))
    shop = Shop(
        table=table,
        frames=found,
        out=out,
        fabric=fabric,
        imagenet=imagenet,
        say=speaking(console, fabric),
    )

    def after_fold(results: Results) -> None:
        first_alone(fabric, lambda: report.write(shop, results, command=again()))

    table_within_memory(
        partial(run, shop, after_fold), "pretrain.batch_size, finetune.all.batch_size or size"
    )
    shop.say(f"{out / report.MARKDOWN}: the report")


def _seeds(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise ConfigError(f"--seeds: {text!r} will not do: write whole numbers by comma, as 0,1,2")
    return tuple(map(int, words))

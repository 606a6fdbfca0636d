"""``train folds``: a table over folds of whole clips, from an index of pictures."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from dicom_node.errors import ConfigError
from training.commands import options
from training.commands.fitting import table_within_memory
from training.engine import first_alone, launch
from training.folds import frames, matrix, report
from training.folds.run import Results, Shop, run

app = typer.Typer(add_completion=False)


@app.command()
def command(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help=f"One of {', '.join(matrix.names())}, or a file FILE.yaml."
        ),
    ],
    index: Annotated[
        Path, typer.Option(help="CSV of the frames: path, patient, label as 'covid;fold=0'.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs and the report.")],
    imagenet: Annotated[
        Path | None, typer.Option(help="Folder of published files, as resnet18-f37072fd.pth.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="By comma, as 0,1,2, instead of the table's.")
    ] = None,
    accelerator: Annotated[
        Literal["auto", "cpu", "gpu"] | None, typer.Option(help="Instead of the table's.")
    ] = None,
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
    is_first = fabric.is_global_zero
    say = partial(console.print, markup=False, soft_wrap=True)
    shop = Shop(
        table=table,
        frames=found,
        out=out,
        fabric=fabric,
        imagenet=imagenet,
        say=say if is_first else lambda _: None,
    )
    again = shlex.join(["dicom-node", "train", *sys.argv[1:]])

    def after_fold(results: Results) -> None:
        first_alone(fabric, lambda: report.write(shop, results, command=again))

    table_within_memory(
        partial(run, shop, after_fold), "pretrain.batch_size, finetune.all.batch_size or size"
    )
    if is_first:
        say(f"{out / report.MARKDOWN}: the report")


def _seeds(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise ConfigError(f"--seeds: {text!r} will not do: write whole numbers by comma, as 0,1,2")
    return tuple(map(int, words))

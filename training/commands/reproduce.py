"""``train reproduce``: a whole matrix, cell by cell, and its report."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from lightning_fabric import Fabric
from rich.console import Console

from training.commands import options
from training.commands.sources import open_pack
from training.config import Engine
from training.engine import launch
from training.pack import Pack
from training.reproduce import estimate, ledger, matrix, report, results
from training.reproduce.cells import Cell, Plan, plan
from training.reproduce.display import showing
from training.reproduce.estimate import Clock, duration
from training.reproduce.ledger import Ledger
from training.reproduce.matrix import Matrix
from training.reproduce.run import Workshop, run

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="MATRIX", help=f"One of {', '.join(matrix.names())}, or a file FILE.yaml."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs and the report.")],
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    imagenet: Annotated[
        Path | None, typer.Option(help="Folder of torchvision's files, as vgg16_bn-6c64b313.pth.")
    ] = None,
    accelerator: Annotated[
        Literal["auto", "cpu", "gpu"] | None, typer.Option(help="Instead of the matrix'.")
    ] = None,
    devices: Annotated[int | None, typer.Option(help="Instead of the matrix'.")] = None,
    precision: Annotated[
        Literal["auto", "32-true", "bf16-mixed"] | None,
        typer.Option(help="Instead of the matrix'."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and how long they will take.")
    ] = False,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Write the report of what is finished.")
    ] = False,
) -> None:
    """Reproduce a whole table: pretrain, fine-tune, test and report, cell by cell.

    Killed in between, the same command goes on where it was. A cell that fails is written down with
    its reason, the others go on, and the exit status is 1.

    Example: dicom-node train reproduce small --store node-data/store --out reproduction
    """
    chosen = matrix.load(name)
    given = {"accelerator": accelerator, "devices": devices, "precision": precision}
    engine = options.engine(**chosen.engine.model_dump() | options.given(given))
    chosen = chosen.model_copy(update={"engine": engine})
    layout = plan(chosen)
    console = Console(highlight=False)
    frames = None
    if not (dry_run or only_report) or store or pack or node.exists():
        frames = open_pack(console, chosen.size, node=node, store=store, folder=pack)
    if dry_run:
        _print_plan(console, layout, frames, out)
        return
    paths = {"--store": store, "--pack": pack, "--imagenet": imagenet, "--out": out}
    words = [word for option, path in paths.items() if path for word in (option, str(path))]
    again = shlex.join(["dicom-node", "train", "reproduce", name, *words])
    if not only_report and frames is not None:
        shop = _workshop(layout, frames, out, imagenet, engine)
        with showing(_console_of(shop.fabric), shop.clock, layout.cells) as display:
            entries = run(shop, display)
        if not shop.fabric.is_global_zero:
            return
    else:
        entries = ledger.read(out)
    page = report.write(layout, out, frames, command=again)
    console.print(f"{page}: the report, beside it {report.MARKDOWN}", soft_wrap=True)
    _finish(console, layout, entries, out)


def _workshop(
    layout: Plan, frames: Pack, out: Path, imagenet: Path | None, engine: Engine
) -> Workshop:
    return Workshop(
        plan=layout,
        pack=frames,
        out=out,
        fabric=launch(engine),
        imagenet=imagenet,
        clock=Clock(estimate.loads(layout, frames), layout.matrix.speed),
    )


def _console_of(fabric: Fabric) -> Console:
    """Return where a process speaks: one of them is enough."""
    return Console(highlight=False, quiet=not fabric.is_global_zero)


def _print_plan(console: Console, layout: Plan, frames: Pack | None, out: Path) -> None:
    """Print every cell, whether it is finished, and how long it will take."""
    entries = ledger.read(out)
    clock = _clock(layout, frames, out, entries)
    left = [cell for cell in layout.cells if results.finished(out, cell) is None]
    for cell in layout.cells:
        told = _work(cell, clock) if cell in left else "finished"
        console.print(f"{cell.name}: {told}", soft_wrap=True)
    total = clock.total(left) if clock else None
    text = _summary(layout.matrix, len(left), total, with_frames=frames is not None)
    console.print(text, soft_wrap=True)


def _work(cell: Cell, clock: Clock | None) -> str:
    epochs = cell.settings.epochs
    if clock is None:
        return f"{epochs} epochs"
    seconds = clock.seconds(cell)
    about = "" if seconds is None else f", about {duration(seconds)}"
    return f"{epochs} epochs of {clock.loads[cell.name].training} images{about}"


def _clock(layout: Plan, frames: Pack | None, out: Path, entries: Ledger) -> Clock | None:
    if frames is None:
        return None
    clock = Clock(estimate.loads(layout, frames), layout.matrix.speed)
    for cell in layout.cells:
        seconds = entries.seconds(cell)
        if seconds is not None and results.finished(out, cell) is not None:
            clock.finished(cell, seconds)
    return clock


def _summary(chosen: Matrix, left: int, seconds: float | None, *, with_frames: bool) -> str:
    if not with_frames:
        return f"{left} cells to run; name --store or --pack to know how long they will take"
    if seconds is None:
        return f"{left} cells to run; how long is known when the first of them are finished"
    where = f", at the speed of {chosen.speed.machine}" if chosen.speed else ""
    return f"{left} cells to run, about {duration(seconds)}{where}"


def _finish(console: Console, layout: Plan, entries: Ledger, out: Path) -> None:
    """Say what failed; failures end the command with 1."""
    names = {cell.name for cell in layout.cells if results.finished(out, cell) is None}
    failed = {name: why for name, why in entries.failed().items() if name in names}
    if failed:
        first, why = next(iter(failed.items()))
        console.print(
            f"{len(failed)} of {len(layout.cells)} cells failed, the first: {first}: {why}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)

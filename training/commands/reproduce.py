"""``train reproduce``: a whole matrix, cell by cell, and its report."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from lightning_fabric import Fabric
from rich.console import Console

from dicom_node import config
from dicom_node.errors import ConfigError, StoreError
from training import memory
from training import pack as packs
from training.commands import options
from training.commands.finetune import trial_step as finetune_step
from training.commands.pretrain import trial_step as pretrain_step
from training.commands.sources import cache_of, launched, open_pack
from training.commands.telling import again
from training.config import Engine, Size
from training.engine import prepare, uses_gpu
from training.pack import Pack
from training.pack.cache import DEFAULT_GIB, Cache
from training.reproduce import estimate, ledger, matrix, report, results
from training.reproduce.attempt import Workshop
from training.reproduce.cells import Cell, FinetuneCell, Plan, plan
from training.reproduce.display import showing
from training.reproduce.estimate import Clock, duration
from training.reproduce.ledger import Ledger
from training.reproduce.matrix import Matrix
from training.reproduce.run import run

app = typer.Typer(add_completion=False)


@app.command()
def command(  # noqa: PLR0913 (one parameter an option)
    *,
    name: Annotated[str, options.table("MATRIX", matrix.names())],
    out: options.TableFolder,
    node: options.ConfigFile = options.DEFAULT_CONFIG,
    store: options.Store = None,
    pack: options.PackFolder = None,
    cache: options.CacheFolder = None,
    cache_gib: options.CacheGib = DEFAULT_GIB,
    imagenet: options.PublishedFolder = None,
    accelerator: options.TableAccelerator = None,
    devices: Annotated[int | None, typer.Option(help="Instead of the matrix'.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Instead of the matrix'.")] = None,
    precision: Annotated[
        Literal["auto", "32-true", "bf16-mixed"] | None,
        typer.Option(help="Instead of the matrix'."),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Cells side by side on a CPU, instead of the matrix'."),
    ] = None,
    compile_networks: options.Compile = False,
    deterministic: options.Deterministic = False,
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
    given = {
        "accelerator": accelerator,
        "devices": devices,
        "nodes": nodes,
        "precision": precision,
        # a flag that is not given leaves the matrix' as it is
        "compile": compile_networks or None,
        "deterministic": deterministic or None,
    }
    engine = options.engine(**chosen.engine.model_dump() | options.given(given))
    chosen = chosen.model_copy(
        update={"engine": engine, "at_once": _at_once(chosen, engine, at_once)}
    )
    layout = plan(chosen)
    console = Console(highlight=False)
    source = Source(node=node, store=store, folder=pack, cache=cache_of(cache, cache_gib))
    if dry_run:
        frames = source.open(console, chosen.size) if source.is_given else None
        _print_plan(console, layout, frames, out)
        return
    if only_report:
        frames, entries = _frames_of_report(console, layout, out, source), ledger.read(out)
    else:
        fabric = prepare(engine)
        version = results.store_version(layout, out)
        frames = launched(fabric, partial(source.open, console, chosen.size, version))
        shop = _workshop(layout, frames, out, imagenet, fabric)
        shown = showing(_console_of(shop.fabric), shop.clock, layout.cells, shop.at_once)
        with shown as display:
            entries = run(shop, display)
        if not shop.fabric.is_global_zero:
            return
    page = report.write(layout, out, frames, command=again(without="--only-report"))
    console.print(f"{page}: the report, beside it {report.MARKDOWN}", soft_wrap=True)
    _finish(console, layout, entries, out)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the frames are, as the options say it."""

    node: Path
    store: Path | None
    folder: str | None
    cache: Cache

    @property
    def is_given(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.store or self.folder or self.node.exists())

    def open(self, console: Console, size: Size, version: str | None = None) -> Pack:
        """Return the frames of a version of the store if they are kept, else what it holds now."""
        if version is not None and self.folder is None:
            store = self.store or config.load(self.node).node.data / config.STORE
            found = packs.kept(store, None, size, version=version)
            if found is not None:
                return found
        return open_pack(
            console,
            size,
            node=self.node,
            store=self.store,
            folder=self.folder,
            cache=self.cache,
            version=version,
        )


def _frames_of_report(console: Console, layout: Plan, out: Path, source: Source) -> Pack | None:
    """Return the frames that the finished cells learned from, where they are still there.

    A store that changed since is opened none the less: the report says what it leaves out.
    """
    version = results.store_version(layout, out)
    if version is None or not source.is_given:
        return None
    try:
        return source.open(console, layout.matrix.size, version)
    except StoreError as exc:
        console.print(f"a report without frames: {exc}", markup=False, soft_wrap=True)
        return None


def _at_once(chosen: Matrix, engine: Engine, asked: int | None) -> int:
    """Return how many cells run side by side: they share the cores of one CPU."""
    is_gpu = uses_gpu(engine, torch.cuda.device_count())
    if engine.devices == engine.nodes == 1 and not is_gpu:
        return asked or chosen.at_once
    if asked not in (None, 1):
        raise ConfigError(
            f"--at-once {asked}: cells share the cores of one CPU; leave it out on a GPU and with "
            "--devices or --nodes"
        )
    return 1


def _workshop(
    layout: Plan, frames: Pack, out: Path, imagenet: Path | None, fabric: Fabric
) -> Workshop:
    return Workshop(
        plan=layout,
        pack=frames,
        out=out,
        fabric=fabric,
        imagenet=imagenet,
        clock=Clock(estimate.loads(layout, frames), layout.matrix.speed),
        at_once=layout.matrix.at_once,
        largest_batch=partial(_largest_batch, frames, fabric),
    )


def _largest_batch(frames: Pack, fabric: Fabric, cell: Cell) -> int | None:
    """Return the batch that fits, found as 'train pretrain' and 'finetune' find it."""
    if isinstance(cell, FinetuneCell):
        step = finetune_step(cell.settings, frames, fabric)
    else:
        step = pretrain_step(cell.settings, frames, fabric)
    return memory.largest_batch(step, cell.settings.batch_size)


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
    if total is not None:
        total /= layout.matrix.at_once
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

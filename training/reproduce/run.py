"""Run a matrix cell by cell; after kill -9 the same command goes on where it was.

A finished cell is never run again, a half one goes on from its checkpoint, and a cell that fails is
written down with its reason while the others go on.
"""

import fcntl
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from dicom_node.errors import ConfigError, NodeError
from training import curves, runs
from training.engine import first_alone
from training.finetune import finetune
from training.pack import Pack
from training.pretrain import pretrain
from training.reproduce import ledger, results
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.display import Display
from training.reproduce.estimate import Clock, duration
from training.reproduce.ledger import Entry, Ledger
from training.runs import RunInfo


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and with what cells are run."""

    plan: Plan
    pack: Pack
    out: Path
    fabric: Fabric
    #: folder of torchvision's files, for cells that start from ImageNet
    imagenet: Path | None
    clock: Clock
    #: which batch a cell's GPU has room for, None for none; asked when the cell's own did not fit
    largest_batch: Callable[[Cell], int | None] = lambda _: None


def run(shop: Workshop, display: Display) -> Ledger:
    """Run what is not finished of a matrix, and return what became of its cells.

    Raises
    ------
    ConfigError
        When the folder holds runs with other settings or of another store, or is in use.
    """
    shop.out.mkdir(parents=True, exist_ok=True)
    with _owned(shop):
        _check_fits(shop)
        entries = ledger.read(shop.out)
        done = _learn(shop, entries)
        if done:
            display.say(f"{done} of {len(shop.plan.cells)} cells are finished already")
        left_out = _leave_out(shop, entries, display)
        for number, cell in enumerate(shop.plan.cells, start=1):
            if cell.name not in left_out and results.finished(shop.out, cell) is None:
                display.begin(number)
                entry = _attempt(shop, cell, display)
                if shop.fabric.is_global_zero:
                    entries.put(cell, entry)
                display.end(number, _told(shop.out, cell, entry))
            if shop.fabric.is_global_zero:
                _tidy(shop, cell)
    return entries


def _attempt(shop: Workshop, cell: Cell, display: Display) -> Entry:
    start = cell.start if isinstance(cell, FinetuneCell) else None
    if start is not None and results.finished(shop.out, start) is None:
        return Entry(reason=f"{start.name} failed")
    folder = results.folder_of(shop.out, cell)
    goes_on = (folder / runs.CHECKPOINT).exists()
    started = time.monotonic()
    is_out_of_memory = False
    try:
        _run(shop, cell, folder, display)
    except torch.OutOfMemoryError:
        is_out_of_memory = True
    except (NodeError, RuntimeError) as exc:  # torch has RuntimeError for all that goes wrong in it
        return Entry(reason=(str(exc).splitlines() or [type(exc).__name__])[0])
    finally:
        _forget(shop)
    if is_out_of_memory:
        # here, where nothing holds the tensors of the cell any longer
        return Entry(reason=_what_fits(cell, shop.largest_batch(cell)))
    seconds = round(time.monotonic() - started, 2)
    if not goes_on:
        shop.clock.finished(cell, seconds)
    return Entry(seconds=None if goes_on else seconds, machine=_machine(shop.fabric))


def _run(shop: Workshop, cell: Cell, folder: Path, display: Display) -> RunInfo:
    compile_networks = shop.plan.matrix.engine.compile
    with curves.recording(folder) as record:

        def after_epoch(epoch: Any) -> None:
            if shop.fabric.is_global_zero:
                record(epoch)
            display.epoch(epoch)

        if isinstance(cell, FinetuneCell):
            return finetune(
                cell.settings,
                shop.pack,
                shop.fabric,
                run=folder,
                start=results.folder_of(shop.out, cell.start) if cell.start else None,
                imagenet=_weights(shop, cell) if cell.imagenet else None,
                compile_networks=compile_networks,
                after_epoch=after_epoch,
            )
        return pretrain(
            cell.settings,
            shop.pack,
            shop.fabric,
            run=folder,
            compile_networks=compile_networks,
            after_epoch=after_epoch,
        )


def _leave_out(shop: Workshop, entries: Ledger, display: Display) -> set[str]:
    """Write down which cells cannot run with what was given; return their names."""
    found: dict[str, set[str]] = {}
    for cell in shop.plan.finetune:
        if cell.imagenet and _weights(shop, cell) is None and not results.finished(shop.out, cell):
            reason = (
                f"no ImageNet weights: give --imagenet FOLDER with torchvision's "
                f"{cell.settings.encoder}-*.pth"
            )
            found.setdefault(reason, set()).add(cell.name)
            shop.clock.leave_out(cell)
            if shop.fabric.is_global_zero:
                entries.put(cell, Entry(reason=reason, is_left_out=True))
    for reason, names in found.items():
        display.say(f"left out: {len(names)} of {len(shop.plan.cells)} cells: {reason}")
    return set().union(*found.values())


def _weights(shop: Workshop, cell: FinetuneCell) -> Path | None:
    """Return torchvision's file of a cell's encoder."""
    found = sorted(shop.imagenet.glob(f"{cell.settings.encoder}*.pth")) if shop.imagenet else []
    return found[0] if found else None


def _told(out: Path, cell: Cell, entry: Entry) -> str:
    info = results.finished(out, cell)
    if info is None:
        return f"FAILED: {entry.reason}"
    kind = "test_" if isinstance(cell, FinetuneCell) else "validation_"
    scores = [
        f"{name} {value:.3f}" for name, value in info.metrics.items() if name.startswith(kind)
    ]
    took = [duration(entry.seconds)] if entry.seconds is not None else []
    return ", ".join(scores[:2] + took)


def _learn(shop: Workshop, entries: Ledger) -> int:
    """Teach the clock what finished cells took; return how many are finished."""
    done = 0
    for cell in shop.plan.cells:
        if results.finished(shop.out, cell) is not None:
            done += 1
            seconds = entries.seconds(cell)
            if seconds is not None:
                shop.clock.finished(cell, seconds)
    return done


def _check_fits(shop: Workshop) -> None:
    for cell in shop.plan.cells:
        folder = results.folder_of(shop.out, cell)
        if not (folder / runs.INFO).exists():
            continue
        info = runs.read(folder)
        if info.settings != cell.settings:
            raise ConfigError(
                f"{folder}: a run with other settings than the matrix has now; "
                "take another --out, or delete that folder"
            )
        if info.store_version != shop.pack.store_version:
            raise ConfigError(
                f"{folder}: a run on the store {info.store_version}, which is "
                f"{shop.pack.store_version} now; take another --out, or the old store"
            )


def _tidy(shop: Workshop, cell: Cell) -> None:
    """Remove the weights of a finished fine-tuning that the matrix does not keep."""
    matrix = shop.plan.matrix
    if not isinstance(cell, FinetuneCell) or matrix.keep == "all":
        return
    if cell.settings.seed != matrix.seeds[0] and results.finished(shop.out, cell) is not None:
        (results.folder_of(shop.out, cell) / runs.NETWORK).unlink(missing_ok=True)


def _forget(shop: Workshop) -> None:
    """Give the memory of one cell back before the next."""
    if shop.plan.matrix.engine.compile:
        torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def _machine(fabric: Fabric) -> str:
    """Say on what is computed: "2 CPU cores, bf16-mixed"."""
    if fabric.device.type == "cuda":
        device = torch.cuda.get_device_name(fabric.device)
    else:
        cores = torch.get_num_threads()
        device = f"{cores} CPU core{'s' * (cores > 1)}"
    world = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    return f"{world}{device}, {fabric.strategy.precision.precision}"


def _what_fits(cell: Cell, batch_size: int | None) -> str:
    """Say what the GPU had no room for, and what to write into the matrix."""
    of = f"tasks.{cell.task}" if isinstance(cell, FinetuneCell) else "pretrain"
    key = f"{of}.batch_size"
    refused = f"the GPU has no room for {key}: {cell.settings.batch_size}"
    if batch_size is None:
        return (
            f"{refused}, nor for any smaller one; give the matrix a smaller size or encoder, or "
            "end what else runs on the GPU"
        )
    return f"{refused}; {batch_size} fits: give the matrix {key}: {batch_size}"


@contextmanager
def _owned(shop: Workshop) -> Iterator[None]:
    """Hold the folder: two matrices in one would tread on each other's runs."""
    with ExitStack() as held:
        first_alone(shop.fabric, lambda: _lock(shop.out, held))
        yield


def _lock(out: Path, held: ExitStack) -> None:
    file = held.enter_context((out / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{out}: another reproduction works there; wait for it, or take another --out"
        ) from None

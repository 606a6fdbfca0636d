"""One cell of a matrix: run it, and say what became of it."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dicom_node.errors import NodeError
from training import curves, runs
from training.finetune import finetune
from training.loop import Epoch
from training.pack import Pack
from training.pretrain import pretrain
from training.reproduce import results
from training.reproduce.cells import Cell, FinetuneCell, Plan
from training.reproduce.estimate import Clock
from training.reproduce.ledger import Entry
from training.runs import RunInfo
from training.tasks.starts import published


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and with what cells are run."""

    plan: Plan
    pack: Pack
    out: Path
    fabric: Fabric
    #: folder of published files, for cells that start from ImageNet
    imagenet: Path | None
    clock: Clock
    #: processes that each run a cell
    at_once: int = 1
    #: which batch a cell's GPU has room for, None for none; asked when the cell's own did not fit
    largest_batch: Callable[[Cell], int | None] = lambda _: None


def attempt(shop: Workshop, cell: Cell, after_epoch: Callable[[Epoch], None]) -> Entry:
    """Run one cell, or go on with it; what goes wrong is told in the entry."""
    start = cell.start if isinstance(cell, FinetuneCell) else None
    if start is not None and results.finished(shop.out, start) is None:
        return Entry(reason=f"{start.name} failed")
    folder = results.folder_of(shop.out, cell)
    goes_on = (folder / runs.CHECKPOINT).exists()
    started = time.monotonic()
    is_out_of_memory = False
    try:
        _run(shop, cell, folder, after_epoch)
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
    return Entry(seconds=None if goes_on else seconds, machine=_machine(shop))


def _run(shop: Workshop, cell: Cell, folder: Path, after_epoch: Callable[[Epoch], None]) -> RunInfo:
    compile_networks = shop.plan.matrix.engine.compile
    with curves.recording(folder) as record:

        def tell(epoch: Epoch) -> None:
            if shop.fabric.is_global_zero:
                record(epoch)
            after_epoch(epoch)

        if isinstance(cell, FinetuneCell):
            return finetune(
                cell.settings,
                shop.pack,
                shop.fabric,
                run=folder,
                start=results.folder_of(shop.out, cell.start) if cell.start else None,
                imagenet=weights(shop, cell) if cell.imagenet else None,
                compile_networks=compile_networks,
                after_epoch=tell,
            )
        return pretrain(
            cell.settings,
            shop.pack,
            shop.fabric,
            run=folder,
            compile_networks=compile_networks,
            after_epoch=tell,
        )


def weights(shop: Workshop, cell: FinetuneCell) -> Path | None:
    """Return the published file of a cell's encoder."""
    return published(shop.imagenet, cell.settings.encoder)


def _forget(shop: Workshop) -> None:
    """Give the memory of one cell back before the next."""
    if shop.plan.matrix.engine.compile:
        torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()


def _machine(shop: Workshop) -> str:
    """Say on what is computed: "2 CPU cores, bf16-mixed"."""
    fabric = shop.fabric
    if fabric.device.type == "cuda":
        device = torch.cuda.get_device_name(fabric.device)
    else:
        cores = torch.get_num_threads()
        device = f"{cores} CPU core{'s' * (cores > 1)}"
    world = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
    beside = f", {shop.at_once} cells at once" if shop.at_once > 1 else ""
    return f"{world}{device}, {fabric.strategy.precision.precision}{beside}"


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

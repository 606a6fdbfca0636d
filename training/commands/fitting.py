"""The one place where a GPU that runs out of memory is met: say which batch fits."""

import gc
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from lightning_fabric import Fabric

from dicom_node.errors import StoreError
from training import memory
from training.loop import Batch, Task, layout

T = TypeVar("T")
S = TypeVar("S", bound=Task)


def within_memory(
    work: Callable[[], T],
    step: Callable[[int], None],
    batch_size: int,
    smaller: str = memory.SMALLER,
) -> T:
    """Do the work of a run, or say which batch its GPU has room for.

    Parameters
    ----------
    work : callable
        The run.
    step : callable
        Takes a number of frames and does what one step of the run does with so many.
    batch_size : int
        Frames a step of the run.
    smaller : str
        Options to take where no batch fits.

    Raises
    ------
    StoreError
        When the GPU ran out of memory.
    """
    try:
        return work()
    except torch.cuda.OutOfMemoryError:
        pass
    # outside of the handler, where nothing holds the tensors of the run any longer
    gc.collect()
    torch.cuda.empty_cache()
    raise memory.advice(batch_size, memory.largest_batch(step, batch_size), smaller)


def table_within_memory(work: Callable[[], T], keys: str) -> T:
    """Do the work of a table, or say what in its file takes less memory.

    Parameters
    ----------
    work : callable
        All runs of the table.
    keys : str
        Of the file.

    Raises
    ------
    StoreError
        When the GPU ran out of memory.
    """
    try:
        return work()
    except torch.cuda.OutOfMemoryError:
        pass
    raise StoreError(
        f"the GPU has no room for a step of this table; copy its file, give it a smaller {keys} "
        "and name it by its path with another --out, or end what else runs on the GPU"
    )


def step_of(
    fabric: Fabric,
    make_task: Callable[[], S],
    make_batch: Callable[[S, int], Batch],
    held: Callable[[], Iterable[int]],
) -> Callable[[int], None]:
    """Return a function that does one step of a new network, of so many frames.

    Parameters
    ----------
    fabric : Fabric
        Where, and at which precision.
    make_task : callable
        Builds what learns.
    make_batch : callable
        Makes a batch of a number of frames for it.
    held : callable
        Returns the bytes of the frames of each split, which the run may hold on the device.
    """

    def step(size: int) -> None:
        task = make_task()
        networks = {
            name: player.network.to(fabric.device, memory_format=layout(player.network))  # type: ignore[call-overload]
            for name, player in task.players.items()
        }
        # where a run takes them too: when its networks are there, and before its first step
        aside = memory.set_aside(held(), fabric.device)
        # each device gets its part of a batch
        part = max(1, size // fabric.world_size)
        batch = {name: t.to(fabric.device) for name, t in make_batch(task, part).items()}
        for turn, player in task.players.items():
            with fabric.autocast():
                loss = task.loss(turn, networks, batch)["loss"]
            torch.autograd.backward(loss)
            player.optimizer.step()
        del aside

    return step

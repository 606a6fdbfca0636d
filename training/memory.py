"""What a GPU has room for: frames that it may hold, and the batch that fits when it ran out."""

import gc
from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor

from dicom_node.errors import StoreError

#: Part of a device's free memory that frames may take.
HELD_PART: Final = 0.25

#: The smallest batch that batch normalisation learns from.
SMALLEST_BATCH = 2


def room(device: torch.device) -> int:
    """Return how many bytes the frames of a split may take on a device: none of a CPU's.

    A CPU leaves them to the page cache.
    """
    if device.type != "cuda":
        return 0
    return int(torch.cuda.mem_get_info(device)[0] * HELD_PART)


def set_aside(
    needed: Iterable[int],
    device: torch.device,
    room: Callable[[torch.device], int] = room,
) -> list[Tensor]:
    """Take the memory that a run's frames take where they are held on the device.

    Parameters
    ----------
    needed : iterable of int
        Bytes of the frames of each split.
    device : torch.device
        Of the run.
    room : callable
        How many bytes a split may take now.

    Returns
    -------
    list of Tensor
        The memory is free again when they are gone.
    """
    return [
        torch.empty(count, dtype=torch.uint8, device=device)
        for count in needed
        if count <= room(device)
    ]


def largest_batch(step: Callable[[int], None], tried: int) -> int | None:
    """Return the first of `tried` / 2, `tried` / 4, ... frames that a step has room for.

    Parameters
    ----------
    step : callable
        Takes a number of frames and does what one step of the run does with so many.
    tried : int
        What did not fit.

    Returns
    -------
    int or None
        None where not even `SMALLEST_BATCH` fits.
    """
    size = tried // 2
    while size >= SMALLEST_BATCH:
        if _fits(step, size):
            return size
        size //= 2
    return None


#: What takes less memory than a smaller batch, of a run on frames.
SMALLER: Final = "a smaller --height and --width, a smaller --encoder"


def advice(tried: int, fitting: int | None, smaller: str = SMALLER) -> StoreError:
    """Return the error that says what was tried and what fits.

    Parameters
    ----------
    tried : int
        Frames a step that the GPU had no room for.
    fitting : int or None
        What `largest_batch` found.
    smaller : str
        Options to take where no batch fits.
    """
    refused = f"the GPU has no room for --batch-size {tried}"
    if fitting is None:
        return StoreError(
            f"{refused}, nor for any smaller one; take {smaller}, or end what else runs on the GPU"
        )
    return StoreError(f"{refused}; {fitting} fits: take --batch-size {fitting}")


def _fits(step: Callable[[int], None], size: int) -> bool:
    try:
        step(size)
    except torch.cuda.OutOfMemoryError:
        fits = False
    else:
        fits = True
    # outside of the handler, where nothing holds the tensors of the step any longer
    gc.collect()
    torch.cuda.empty_cache()
    return fits

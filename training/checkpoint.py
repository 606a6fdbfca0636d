"""Weights on disk: a ``state_dict`` and nothing else, so that loading runs no code."""

import os
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from dicom_node.errors import StoreError


def save(path: Path, state: dict[str, Tensor]) -> None:
    """Write weights atomically: a reader sees the old file or the new one."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)  # noqa: TID251
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path, network: nn.Module) -> None:
    """Fill a network with saved weights.

    Raises
    ------
    StoreError
        When the file is no checkpoint, or one of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        network.load_state_dict(state)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read ({exc.strerror})") from None
    except (EOFError, RuntimeError, TypeError, UnpicklingError) as exc:
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise StoreError(
            f"{path}: no weights of this network ({first}); "
            "give a .pt file that a run with the same task and encoder width left"
        ) from None

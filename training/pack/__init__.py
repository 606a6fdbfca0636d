"""The weak-label store as arrays: every frame decoded and resized once, then read at memory speed.

A pack is a folder of one version of a store at one input size::

    pack.json     format, store version, size, counts, names
    rows.npz      what is known of each frame, one array a column
    frames.npy    uint8 (N, H, W)
    masks.npy     uint8 (N, H, W), 0 where there is none; only where a frame has one

`build` and `ensure` read the store. `open` needs NumPy and no database, so that a pack can
travel to a machine with a GPU by itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from training.pack.reading import open
from training.pack.rows import Pack, Rows

if TYPE_CHECKING:
    from training.pack.building import build, ensure, kept

__all__ = ["Pack", "Rows", "build", "ensure", "kept", "open"]


def __getattr__(name: str) -> Any:
    """Import what reads the store when it is asked for."""
    if name in ("build", "ensure", "kept"):
        return getattr(import_module("training.pack.building"), name)
    raise AttributeError(name)

"""Frames with a planted signal: what fills the hole follows from the tag, and from nothing else.

The hole shows stripes across or along, as the tag says, of a phase that nothing foretells: their
mean over the phase is 0 whatever the tag, so the squared difference to what was there rewards no
guess at their direction. Around the hole a faint pattern tells the tag, under noise, in a phase of
its own. Blobs that go on into the hole are what the squared difference does reward.

Nothing is flipped or shifted: a shift would move stripes out of the hole, where pixels teach them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.tags import TAG_BITS

SIDE_PX = 64
HOLE = slice(SIDE_PX // 4, SIDE_PX // 4 + SIDE_PX // 2)
#: Both divide the hole, so that the mean of a hole tells nothing.
STRIPES_PX, CUE_PX = 4, 4
_GREY, _NOISE, _BLOBS_PX, _STRIPES = 128.0, 30.0, 4, 40.0


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Frames, and batches of them in the order in which they were drawn."""

    #: uint8 (N, 1, 64, 64)
    frames: Tensor
    #: float32 (N, 10); the first bit or the second is set
    tags: Tensor
    batch_size: int

    @property
    def kind(self) -> NDArray[np.bool_]:
        """Which way the stripes go, (N,)."""
        kind: NDArray[np.bool_] = self.tags[:, 0].numpy() == 1
        return kind

    def __len__(self) -> int:
        return len(self.frames) // self.batch_size

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches as `training.batches.Batches` does; every epoch is the same."""
        del number
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            place = slice(start, start + self.batch_size)
            yield {"frames": self.frames[place], "tags": self.tags[place]}

    def shuffled(self) -> "Planted":
        """Return the same frames with the tags of others."""
        order = np.random.default_rng(len(self.tags)).permutation(len(self.tags))
        return replace(self, tags=self.tags[torch.from_numpy(order)])


def planted(count: int, *, cue: float, seed: int, batch_size: int = 32) -> Planted:
    """Draw frames.

    Parameters
    ----------
    count : int
        How many.
    cue : float
        How strong the pattern around the hole is, against the noise (root mean squares).
    seed : int
        Of everything random.
    batch_size : int
        Of the batches.
    """
    rng = np.random.default_rng(seed)
    kind = rng.random(count) < 0.5
    blobs = _blobs(count, rng)
    noise = rng.normal(0, _NOISE, (count, SIDE_PX, SIDE_PX))
    grey = _GREY + blobs + noise + _NOISE * cue * 2**0.5 * _stripes(kind, CUE_PX, rng)
    filling = _GREY + blobs + _STRIPES * _stripes(kind, STRIPES_PX, rng)
    grey[:, HOLE, HOLE] = filling[:, HOLE, HOLE]
    tags = np.zeros((count, TAG_BITS), np.float32)
    tags[:, 0], tags[:, 1] = kind, ~kind
    return Planted(
        frames=torch.from_numpy(grey.clip(0, 255).astype(np.uint8))[:, None],
        tags=torch.from_numpy(tags),
        batch_size=batch_size,
    )


def _stripes(
    kind: NDArray[np.bool_], period_px: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return sine waves of amplitude 1 and random phase, (N, 64, 64)."""
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    along = np.where(kind[:, None, None], column, row)
    phase = rng.uniform(0, 2 * np.pi, (len(kind), 1, 1))
    waves: NDArray[np.float64] = np.sin(2 * np.pi * along / period_px + phase)
    return waves


def _blobs(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth patches of light and dark, (N, 64, 64)."""
    coarse = rng.normal(0, _NOISE, (count, _BLOBS_PX, _BLOBS_PX))
    place = np.linspace(0, _BLOBS_PX - 1, SIDE_PX)
    # linear interpolation as a matrix, (64, 4)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_BLOBS_PX)))
    return weights @ coarse @ weights.T

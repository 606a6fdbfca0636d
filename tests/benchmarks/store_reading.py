"""Random reads of frames for training: a pack, and the store's PNG files, by a ``DataLoader``."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from dicom_node.records import Box
from dicom_node.store import NewFrame, StoredFrame, WeakLabelStore, open_store
from training import pack
from training.batches import Batches
from training.config import Size
from training.pack import Pack

SIZE = Size(height=256, width=384)
BATCH = 32
WORKERS = 2
#: Frames that are read before the clock starts: workers come up, pages become warm.
WARM = 40 * BATCH
LOADER = f"a pack, DataLoader with {WORKERS} workers"
FIELD = "a pack, the project's own batches"
PNG = f"PNG files, DataLoader with {WORKERS} workers"
#: How much more is read from a pack than from files in about the same time.
_SHARE_OF_PNG = 8


@dataclass(frozen=True, kw_only=True)
class Made:
    """A store and its pack."""

    store: Path
    packed: Pack

    @classmethod
    def of(cls, folder: Path, *, frames: int) -> "Made":
        """Fill a store, and pack it."""
        store = folder / "store"
        with WeakLabelStore(store) as opened:
            for number in range(frames):
                opened.add_frame(frame(number))
        return cls(store=store, packed=pack.ensure(store, folder / "packs", SIZE))

    def rates(self, *, rounds: int) -> dict[str, list[float]]:
        """Return frames/s by way, round by round; the ways take turns."""
        count = max(BATCH, 20 * len(self.packed))
        ways: dict[str, Callable[[], float]] = {
            LOADER: lambda: _rate(self._loader(count), count),
            FIELD: lambda: self._field(count),
            PNG: lambda: self._png(max(BATCH, count // _SHARE_OF_PNG)),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(rounds):
            for way in list(ways)[:: -1 if turn % 2 else 1]:
                rates[way].append(ways[way]())
        return rates

    def _loader(self, count: int) -> Iterable[Any]:
        places = RandomSampler(range(len(self.packed)), replacement=True, num_samples=WARM + count)
        data: Any = self.packed  # as a researcher writes it (docs/research.md)
        return DataLoader(data, sampler=places, batch_size=BATCH, num_workers=WORKERS)

    def _field(self, count: int) -> float:
        batches = Batches(
            self.packed,
            np.arange(len(self.packed)),
            batch_size=min(BATCH, len(self.packed)),
            training=False,
            device=torch.device("cpu"),
        )
        shuffled = _Shuffled(batches)
        epochs = -(-(WARM + count) // len(self.packed))
        whole = (batch for number in range(epochs) for batch in shuffled.epoch(number))
        return _rate(whole, count)

    def _png(self, count: int) -> float:
        with open_store(self.store) as opened:
            frames = opened.where().prepared(pixels_alone)
        places = RandomSampler(frames, replacement=True, num_samples=WARM + count)
        loader = DataLoader(frames, sampler=places, batch_size=BATCH, num_workers=WORKERS)
        return _rate(loader, count)


class _Shuffled:
    """Batches in another order every epoch, unchanged: what is measured is reading."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def epoch(self, number: int) -> Iterable[Any]:
        """Yield an epoch."""
        order = np.random.default_rng(number).permutation(len(self._batches.rows))
        batches = Batches(
            self._batches.pack,
            self._batches.rows[order],
            batch_size=self._batches.batch_size,
            training=False,
            device=self._batches.device,
        )
        return batches.epoch(0)


def pixels_alone(pixels: np.ndarray, _: StoredFrame) -> np.ndarray:
    """Return what a worker hands over."""
    return pixels


def _rate(batches: Iterable[Any], count: int) -> float:
    """Return frames/s after the warm-up."""
    steps = iter(batches)
    for _ in islice(steps, WARM // BATCH):
        pass
    began, seen = time.perf_counter(), 0
    for batch in steps:
        seen += len(batch["frames"] if isinstance(batch, dict) else batch)
        if seen >= count:
            break
    return seen / (time.perf_counter() - began)


def frame(number: int) -> NewFrame:
    """Return a frame that looks and packs like ultrasound: speckle, brighter here and there."""
    height, width = SIZE.height, SIZE.width
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 160, (8, 12), np.uint8))
    tissue = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    fine = Image.fromarray(
        rng.rayleigh(60, (height // 3, width // 3)).clip(0, 255).astype(np.uint8)
    )
    speckle = np.asarray(fine.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    pixels = (tissue * speckle / 250).clip(0, 255)
    pixels[:, : width // 8] = pixels[:, -width // 8 :] = 0
    token = hashlib.sha256(f"{number}".encode()).hexdigest()[:32]
    return NewFrame(
        pixels=pixels.astype(np.uint8),
        patient=token,
        study=token,
        series=token,
        instance=token,
        frame_number=1,
        rows=height,
        columns=width,
        crop=Box(left=0, top=0, right=width, bottom=height),
    )

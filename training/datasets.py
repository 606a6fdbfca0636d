"""Labelled frames of the weak-label store as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dicom_node.pixels.geometry import to_network
from dicom_node.records import Task
from dicom_node.store import StoredFrame, WeakLabelStore
from training.augment import augment

#: Resized frames and masks that one process keeps, in bytes; the rest is read again each time.
CACHE_BYTES = 2**30


class LabelledFrames(Dataset[tuple[Tensor, Tensor]]):
    """Frames with a reader's labels, resized by the function that serving uses.

    An item is the frame, uint8 (1, H, W), and its target: for a segmentation the label map, int64
    (H, W), labels above `labels` counted as background; for the quality the score, int64 ().

    Parameters
    ----------
    store : WeakLabelStore
        Where pixels and masks lie.
    frames : sequence of StoredFrame
        All labelled for `task`.
    task : Task
        Which label is the target.
    size : tuple of int
        (H, W) of the network's input.
    labels : int
        Highest label of a segmentation.
    seed : int, optional
        Augment, by a generator that depends on this seed, the epoch and the frame alone.
    """

    def __init__(
        self,
        store: WeakLabelStore,
        frames: Sequence[StoredFrame],
        task: Task,
        size: tuple[int, int],
        *,
        labels: int,
        seed: int | None = None,
    ) -> None:
        self.frames = list(frames)
        self.epoch = 0
        self._store, self._task, self._size = store, task, size
        self._labels, self._seed = labels, seed
        self._cache: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = {}
        self._cache_items = CACHE_BYTES // (2 * size[0] * size[1])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        frame, mask = self._resized(index)
        if self._seed is not None:
            frame, mask = augment(
                frame, mask, np.random.default_rng((self._seed, self.epoch, index))
            )
        pixels = torch.from_numpy(np.ascontiguousarray(frame))[None]  # (1, H, W)
        if mask is None:
            return pixels, torch.tensor(self.frames[index].quality)
        return pixels, torch.from_numpy(mask.astype(np.int64))  # (H, W)

    def _resized(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        if index in self._cache:
            return self._cache[index]
        frame_id, (height, width) = self.frames[index].frame_id, self._size
        frame = to_network(self._store.pixels(frame_id), None, height=height, width=width)
        mask = None
        if self._task is Task.SEGMENTATION:
            source = self._store.mask(frame_id)
            mask = to_network(source, None, height=height, width=width, nearest=True)
            mask[mask > self._labels] = 0
        if len(self._cache) < self._cache_items:
            self._cache[index] = frame, mask
        return frame, mask

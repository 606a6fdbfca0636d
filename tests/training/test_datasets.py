from pathlib import Path

import numpy as np
import torch

from dicom_node.pixels.geometry import to_network
from dicom_node.records import Task
from dicom_node.store import WeakLabelStore
from training.datasets import LabelledFrames

SIZE = (64, 96)


def dataset(
    folder: Path, task: Task, *, labels: int = 2, seed: int | None = None
) -> LabelledFrames:
    store = WeakLabelStore(folder)
    frames = store.frames(labelled=task)
    store.close()  # pixels and masks are files
    return LabelledFrames(store, frames, task, SIZE, labels=labels, seed=seed)


def test_a_frame_is_what_serving_would_see(phantom_store: Path) -> None:
    frames = dataset(phantom_store, Task.QUALITY)
    with WeakLabelStore(phantom_store) as store:
        pixels = store.pixels(frames.frames[3].frame_id)
    seen, score = frames[3]
    assert np.array_equal(seen[0].numpy(), to_network(pixels, None, height=64, width=96))
    assert seen.dtype == torch.uint8
    assert int(score) == frames.frames[3].quality


def test_masks_hold_labels_and_unknown_labels_are_background(phantom_store: Path) -> None:
    both = dataset(phantom_store, Task.SEGMENTATION)
    liver = dataset(phantom_store, Task.SEGMENTATION, labels=1)
    at = next(n for n in range(len(both)) if set(both[n][1].unique().tolist()) == {0, 1, 2})
    assert both[at][1].shape == SIZE
    assert both[at][1].dtype == torch.int64
    assert torch.equal(liver[at][1], torch.where(both[at][1] == 1, 1, 0))


def test_reading_twice_gives_the_same(phantom_store: Path) -> None:
    frames = dataset(phantom_store, Task.SEGMENTATION)
    for one, other in zip(frames[5], frames[5], strict=True):
        assert torch.equal(one, other)


def test_augmentation_depends_on_seed_epoch_and_frame_alone(phantom_store: Path) -> None:
    one, other = (dataset(phantom_store, Task.QUALITY, seed=4) for _ in range(2))
    plain = dataset(phantom_store, Task.QUALITY)
    first = one[2][0]
    assert torch.equal(first, other[2][0])
    one.epoch = 1
    assert not torch.equal(first, one[2][0])
    assert not torch.equal(first, plain[2][0])

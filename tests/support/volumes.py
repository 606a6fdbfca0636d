"""Volumes for tests of training: what they show follows from their labels."""

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dicom_node.store import WeakLabelStore
from dicom_node.store.volumes import PLANES, SEQUENCES, SHAPE
from tests.support.slices import new_volume
from training.config import SeriesSettings
from training.volumes.targets import COLUMNS, rows_of
from training.volumes.tasks import NamingSeries

#: A network of a second: 12 x 48 x 48.
TINY = SeriesSettings(depth=10, width=2, shrink=4, epochs=2, batch_size=4, learning_rate=1e-2)


def fill_store(folder: Path, count: int) -> None:
    """Store volumes of as many patients: brightness is the sequence, stripes are the plane."""
    with WeakLabelStore(folder) as store:
        for number in range(count):
            sequence, plane = number % len(SEQUENCES), number % len(PLANES)
            voxels = np.full(SHAPE, 45 * sequence + number, np.uint8)
            stripes = [slice(None)] * 3
            stripes[plane] = slice(0, None, 16)
            voxels[tuple(stripes)] = 255
            store.volumes.put(
                new_volume(
                    seed=number,
                    voxels=voxels,
                    patient=f"{number:x}".zfill(2) * 16,
                    sequence=None if number % 7 == 6 else SEQUENCES[sequence],
                    plane=PLANES[plane],
                    contrast=None if number % 2 else bool(number % 4),
                )
            )


def fill_folder(folder: Path, count: int) -> None:
    """Write volumes with masks: a bright ball is 1, a brighter one within is 2."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    axes = np.meshgrid(*(np.linspace(-1, 1, s) for s in SHAPE), indexing="ij", sparse=True)
    for number in range(count):
        centre = rng.uniform(-0.3, 0.3, 3)
        off = sum((axis - place) ** 2 for axis, place in zip(axes, centre, strict=True))
        mask = (off < 0.3).astype(np.uint8) + (off < 0.08).astype(np.uint8)
        volume = np.array([20, 120, 220], np.uint8)[mask]
        np.savez_compressed(folder / f"P{number:03d}_a.npz", volume=volume, mask=mask)


def slopes(fabric: Fabric) -> dict[str, Tensor]:
    """Return what one step changes, of six volumes of which the first says most.

    Each process has its part of them. Batch statistics are left out: they are each device's own.
    """
    targets = torch.from_numpy(rows_of([new_volume().labels])).repeat(6, 1)  # (6, columns)
    targets[1:, : len(COLUMNS) - 1] = torch.nan
    targets[4, COLUMNS.index("plane")] = 2.0
    frames = torch.randint(0, 256, (6, 1, 12, 48, 48), generator=torch.manual_seed(0))
    fabric.seed_everything(0, verbose=False)
    task = NamingSeries(TINY)
    network = task.network.eval()
    part = np.array_split(np.arange(6), fabric.world_size)[fabric.global_rank]
    batch = {"frames": frames.to(torch.uint8)[part], "targets": targets[part]}
    wrapped = fabric.setup_module(network)  # held until the processes have shared the slopes
    fabric.backward(task.loss("network", {"network": wrapped}, batch)["loss"])
    found = {name: weight.grad for name, weight in network.named_parameters()}
    return {name: slope.clone() for name, slope in found.items() if slope is not None}

"""Can contrast agent be learned from phantoms at all, if nothing else is asked?

python -m tests.benchmarks.contrast --phantoms 600 --steps 1200

Of the phantom series of `tests.benchmarks.volumes`, without files and harvest, a 3D ResNet-10 of
width 8 learns the head of contrast alone, from the CT and T1 series: T2 hardly shows it. Printed
are accuracy and AUC on 150 other phantoms, sequence by sequence.
"""

import argparse
import time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dicom_node.harvest.volumes.resampling import PERCENTILES, WINDOW_HU
from dicom_node.phantom.series import SeriesSpec, plan, seen
from training.config import SeriesSettings
from training.volumes.scores import auc
from training.volumes.tasks import NamingSeries

_SHAPE: Final = (12, 48, 48)
_TESTED: Final = 150
_BATCH: Final = 8
_TAUGHT: Final = ("CT", "T1-SE", "T1-FLAIR")


def voxels(spec: SeriesSpec) -> NDArray[np.uint8]:
    """Return a series as grey voxels of the size that the small tables have."""
    _, values = seen(spec)
    low, high = WINDOW_HU if spec.sequence == "CT" else np.percentile(values, PERCENTILES)
    grey = np.clip((values - low) * 255 / (high - low), 0, 255).astype(np.float32)
    whole = torch.from_numpy(grey)[None, None]
    drawn = functional.interpolate(whole, _SHAPE, mode="trilinear", align_corners=False)
    return drawn[0].round().byte().numpy()


def learned(volumes: Tensor, truth: Tensor, taught: NDArray[np.int64], steps: int) -> NamingSeries:
    """Return what learned contrast from the volumes at some places."""
    torch.manual_seed(0)
    task = NamingSeries(SeriesSettings(depth=10, width=8, shrink=4))
    [player] = task.players.values()
    rng = np.random.default_rng(0)
    for _ in range(steps):
        at = rng.choice(taught, _BATCH, replace=False)
        batch = volumes[at].flip(-1) if rng.integers(2) else volumes[at]
        logits = task.network.parts(task.network(batch))["contrast"]
        player.optimizer.zero_grad()
        functional.cross_entropy(logits, truth[at]).backward()
        player.optimizer.step()
    task.network.eval()
    return task


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=600)
    parser.add_argument("--steps", type=int, default=1200)
    given = parser.parse_args()
    specs = plan(seed=5, patients=given.phantoms + _TESTED)
    volumes = torch.from_numpy(np.stack([voxels(spec) for spec in specs]))
    truth = torch.tensor([int(spec.contrast) for spec in specs])
    sequences = np.array([spec.sequence for spec in specs])
    taught = np.flatnonzero(np.isin(sequences[: given.phantoms], _TAUGHT))
    started = time.monotonic()
    task = learned(volumes, truth, taught, given.steps)
    print(f"{len(taught)} volumes, {given.steps} steps: {time.monotonic() - started:.0f} s")  # noqa: T201
    with torch.no_grad():
        tested = task.network(volumes[given.phantoms :])
        said = task.network.parts(tested)["contrast"].softmax(dim=1)[:, 1].numpy()
    wanted = truth[given.phantoms :].numpy() == 1
    for name in sorted(set(sequences)):
        of_it = sequences[given.phantoms :] == name
        right = ((said[of_it] > 0.5) == wanted[of_it]).mean()
        area = auc(wanted[of_it], said[of_it])
        print(f"{name}: {of_it.sum()} volumes, accuracy {right:.3f}, AUC {area:.3f}")  # noqa: T201


if __name__ == "__main__":
    main()

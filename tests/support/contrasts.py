"""The gradient of contrast and labels, each process with its part of the pairs.

    python -m tests.support.contrasts FOLDER RANK WORLD

With one process it is that of all pairs. What the processes leave is averaged, as the loop does.
"""

import sys
from pathlib import Path

import torch
from torch import distributed

from training import runs
from training.contrast import mean_of_known, nt_xent, of_all

PAIRS = 6


def main(folder: Path, rank: int, world: int) -> None:
    """Write the loss, the gradient and all first projections."""
    if world > 1:
        meeting = f"file://{folder / 'meeting'}"
        distributed.init_process_group("gloo", meeting, rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator).requires_grad_()
    pictures = torch.randn(2, PAIRS, 4, generator=generator)
    # all that is labelled is of the first process
    labelled = torch.arange(PAIRS) < 2
    part = slice(rank * PAIRS // world, (rank + 1) * PAIRS // world)
    first, second = pictures[:, part] @ weight
    shared = world > 1
    contrast = nt_xent(first, second, 0.5, shared=shared).mean()
    label = mean_of_known(first.square().sum(dim=1), labelled[part], shared=shared)
    (contrast + label).backward()
    everything = of_all(first.detach(), shared=shared)
    left = {"contrast": contrast, "label": label, "gradient": weight.grad, "first": everything}
    left = {name: value.detach() for name, value in left.items()}
    runs.save(folder / f"{rank}-of-{world}.pt", left)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

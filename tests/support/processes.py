"""One epoch in one process or in several, for the test that both learn the same.

    python -m tests.support.processes PACK OUT.pt DEVICES

The network has no batch normalisation, whose statistics are those of a process. Plain gradient
descent leaves every step's gradient in the weights.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from training import pack, runs
from training.batches import Batches
from training.config import Engine
from training.engine import launch
from training.loop import Batch, Networks, Plan, Player, fit
from training.tags import TAG_BITS, tag_loss, tag_losses


class TagsOfPixels:
    """Predict the tags by two layers."""

    measures = ("loss",)

    def __init__(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=8, stride=8), nn.Flatten(), nn.Linear(256, TAG_BITS)
        )
        self.first = network[0].weight.detach().clone()
        self.players = {"network": Player(network, torch.optim.SGD(network.parameters(), lr=0.5))}

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the tags."""
        return {"loss": tag_loss(networks[turn](batch["frames"] / 255), batch["tags"])}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return the loss of each frame."""
        return tag_losses(networks["network"](batch["frames"] / 255), batch["tags"])[:, None]


def main(folder: Path, out: Path, devices: int) -> None:
    """Train for an epoch; the first process writes the weights."""
    fabric = launch(Engine(accelerator="cpu", devices=devices, precision="32-true"))
    opened = pack.open(folder)
    training, validation = (
        Batches(
            opened,
            opened.select(split=split)[:16],
            targets=("tags",),
            batch_size=8,
            training=split == "train",
            rank=fabric.global_rank,
            world=fabric.world_size,
            device=fabric.device,
        )
        for split in ("train", "validation")
    )
    task = TagsOfPixels()
    fitted = fit(fabric, task, (training, validation), Plan(epochs=2, seed=0))
    if fabric.is_global_zero:
        runs.save(out, {**fitted.best["network"], "first": task.first})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

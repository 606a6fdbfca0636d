"""The training loop, on one page: it knows frames, losses and measures, and no task.

Lightning Fabric moves it between a CPU, a GPU and many machines; nothing else is hidden.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from training.config import Schedule
from training.datasets import LabelledFrames

Batches = DataLoader[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a task wants of its network."""

    #: logits, targets -> the number to make small, ()
    loss: Callable[[Tensor, Tensor], Tensor]
    #: logits, targets -> one row a frame, (N, M); NaN does not count
    measure: Callable[[Tensor, Tensor], Tensor]
    #: names of the M measures
    measures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training frames gave."""

    number: int
    training_loss: float
    #: ``loss`` and the objective's measures, on the validation frames
    validation: dict[str, float]


def train(
    fabric: Fabric,
    network: nn.Module,
    objective: Objective,
    loaders: tuple[Batches, Batches],
    schedule: Schedule,
    after_epoch: Callable[[Epoch], None],
) -> dict[str, Tensor]:
    """Train, and return the weights (on the CPU) of the epoch with the lowest validation loss.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    network : nn.Module
        uint8 (N, 1, H, W) to logits; its weights are those of the last epoch afterwards.
    objective : Objective
        What is wanted.
    loaders : tuple
        Training and validation batches; the training set is told the epoch before each pass.
    schedule : Schedule
        Passes over the training frames (there is no early end) and learning rate.
    after_epoch : callable
        Told of each epoch; for progress.
    """
    # the layout in which CPUs and GPUs convolve fastest
    network.to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters()))
    training, validation = fabric.setup_dataloaders(*loaders)
    steps = schedule.epochs * len(training)
    pace = OneCycleLR(optimizer, max_lr=schedule.learning_rate, total_steps=steps)
    best: dict[str, Tensor] = {}
    least = math.inf
    for number in range(1, schedule.epochs + 1):
        _tell_epoch(loaders[0], number)
        total = torch.zeros((), device=fabric.device)
        model.train()
        for frames, targets in training:
            loss = objective.loss(model(frames), targets)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            pace.step()
            total += loss.detach()
        scores = evaluate(fabric, model, objective, validation)
        after_epoch(
            Epoch(number=number, training_loss=float(total) / len(training), validation=scores)
        )
        if scores["loss"] < least or not best:
            least = scores["loss"]
            best = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
    return best


@torch.no_grad()
def evaluate(
    fabric: Fabric, model: nn.Module, objective: Objective, batches: Batches
) -> dict[str, float]:
    """Return ``loss`` and each measure, averaged over the frames of all processes.

    A measure that no frame could give is NaN.
    """
    model.eval()
    sums = torch.zeros(len(objective.measures) + 1, device=fabric.device)
    counts = torch.zeros_like(sums)
    for frames, targets in batches:
        logits = model(frames)
        rows = objective.measure(logits, targets)  # (N, M)
        loss = objective.loss(logits, targets).expand(len(rows), 1)  # (N, 1)
        values = torch.cat((loss, rows), dim=1)  # (N, M + 1)
        sums += values.nansum(dim=0)
        counts += values.isfinite().sum(dim=0)
    table = cast(Tensor, fabric.all_reduce(torch.stack((sums, counts)), reduce_op="sum"))
    names = ("loss", *objective.measures)
    return dict(zip(names, (table[0] / table[1]).tolist(), strict=True))


def _tell_epoch(batches: Batches, number: int) -> None:
    if isinstance(batches.dataset, LabelledFrames):
        batches.dataset.epoch = number

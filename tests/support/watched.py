"""A command of training whose steps are written down, one file a process.

    python -m tests.support.watched FOLDER pretrain --recipe ce_dcm ...

Batch normalisation computes as in evaluation: its statistics are those of a process, and all else
must be the same in two processes as in one. The file of a process has the gradients of the first
step of each optimizer and the last weights of each, in the order of the turns.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from training import runs
from training.__main__ import app


class Book:
    """What optimizers did."""

    def __init__(self) -> None:
        self.first: dict[int, list[Tensor]] = {}
        self.last: dict[int, list[Tensor]] = {}

    def write(self, optimizer: Optimizer, *_: Any) -> None:
        """Write down a step."""
        own = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients = [torch.zeros(0) if w.grad is None else w.grad.clone() for w in own]
        self.first.setdefault(id(optimizer), gradients)
        # a copy: the first process alone goes back to the best epoch when all have learned
        self.last[id(optimizer)] = [weight.detach().clone() for weight in own]

    def close(self, path: Path) -> None:
        """Leave what was written down."""
        runs.save(path, {"first": [*self.first.values()], "last": [*self.last.values()]})


def agree(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return whether two processes came to the same gradients but for rounding.

    The bias of a score has one element: what real and what filled patches pull at it cancels, and
    rounding is all that is left.
    """
    return len(one) == len(other) and all(
        torch.allclose(
            a, b, rtol=1e-3, atol=1e-6 if a.numel() == 1 else 1e-4 * float(a.abs().max())
        )
        for a, b in zip(one, other, strict=True)
    )


def still(module: nn.Module, _: Any) -> None:
    """Keep batch normalisation from looking at the batch."""
    if isinstance(module, nn.BatchNorm2d):
        module.eval()


def main(folder: Path, words: list[str]) -> None:
    """Run a command."""
    book = Book()
    register_optimizer_step_post_hook(book.write)
    register_module_forward_pre_hook(still)
    try:
        app(words)
    finally:
        book.close(folder / f"{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

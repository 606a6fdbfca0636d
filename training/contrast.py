"""What contrast makes small, across processes, and its pace."""

import math
from functools import partial

import torch
from lightly.loss import NTXentLoss
from lightly.utils.dist import gather
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def is_shared(wrapped: nn.Module, network: nn.Module) -> bool:
    """Return whether other processes compute the same step.

    Parameters
    ----------
    wrapped : nn.Module
        What the loop calls: a network that it set up, or `network` itself in a trial step, which
        no other process takes part in.
    network : nn.Module
        Of the player.
    """
    return wrapped is not network and distributed.is_initialized()


def nt_xent(first: Tensor, second: Tensor, temperature: float, *, shared: bool) -> Tensor:
    """Return NT-Xent of each view, (2N,): all first ones, then all second ones.

    Parameters
    ----------
    first, second : Tensor
        float (N, D): row i of both is of one pair. All others are negatives, of both.
    temperature : float
        Divides the cosines.
    shared : bool
        Take the pairs of all processes as negatives; each must have as many.
    """
    if not len(first):
        return first.new_zeros(0, dtype=torch.float32)
    judge = NTXentLoss(temperature=temperature, gather_distributed=shared)
    # a value for each view, where lightly gives their mean
    judge.cross_entropy = nn.CrossEntropyLoss(reduction="none")
    rows: Tensor = judge(first.float(), second.float())
    return rows


def queued(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE of each query, (N,): its key against a queue of older ones.

    Parameters
    ----------
    query, key : Tensor
        float32 (N, D), of length 1: row i of both is of one pair.
    queue : Tensor
        float32 (Q, D), of length 1: the negatives.
    temperature : float
        Divides the cosines.
    """
    own = (query * key).sum(dim=1, keepdim=True)  # (N, 1)
    scores = torch.cat((own, query @ queue.T), dim=1) / temperature  # (N, 1 + Q)
    zero = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    return functional.cross_entropy(scores, zero, reduction="none")


def of_all(values: Tensor, *, shared: bool) -> Tensor:
    """Return the rows of all processes, in the order of the ranks; each must have as many."""
    return torch.cat(gather(values)) if shared else values


def mean_of_known(losses: Tensor, known: Tensor, *, shared: bool) -> Tensor:
    """Return the mean of the known losses, (); 0 where none is.

    The loop averages what processes return: with `shared` their average is the mean over the known
    losses of all of them, however these are spread.

    Parameters
    ----------
    losses : Tensor
        float (N,), finite where they are not known, too.
    known : Tensor
        bool (N,).
    shared : bool
        Whether other processes compute the same step.
    """
    count = known.sum().float()
    world = 1
    if shared:
        distributed.all_reduce(count)
        world = distributed.get_world_size()
    return (losses * known).sum() * world / count.clamp(min=1)


def pace(optimizer: Optimizer, *, epochs: int, steps: int, constant_epochs: int) -> LambdaLR:
    """Return a schedule: constant first, then down a cosine, epoch by epoch.

    As published, the cosine's half period is `epochs`, and it begins late: it does not reach 0.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rate it changes.
    epochs, steps : int
        Of the run, and of an epoch.
    constant_epochs : int
        At the beginning.
    """
    factor = partial(_factor, epochs=epochs, steps=steps, constant_epochs=constant_epochs)
    return LambdaLR(optimizer, factor)


def _factor(step: int, *, epochs: int, steps: int, constant_epochs: int) -> float:
    late = max(0, step // steps - constant_epochs)
    return (1 + math.cos(math.pi * late / epochs)) / 2

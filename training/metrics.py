"""What fine-tuning is judged by: pure functions from logits and targets to one row a frame."""

import torch
from torch import Tensor


def ordinal_decode(probabilities: Tensor) -> Tensor:
    """Return scores, int64 (N,): the count of leading bits above 0.5 of float (N, B)."""
    return (probabilities > 0.5).to(torch.int64).cumprod(dim=1).sum(dim=1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each label's Dice in each frame, float32 (N, K - 1), 0 to 1.

    NaN where the label is neither in the truth nor in the answer: nothing was asked, nothing said.

    Parameters
    ----------
    logits : Tensor
        float (N, K, H, W), channel 0 is background.
    labels : Tensor
        int64 (N, H, W).
    """
    values = torch.arange(1, logits.shape[1], device=logits.device)[:, None, None]
    found = logits.argmax(dim=1)[:, None] == values  # (N, K - 1, H, W)
    truth = labels[:, None] == values  # (N, K - 1, H, W)
    both = (found & truth).sum(dim=(2, 3))  # (N, K - 1)
    either = found.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))  # (N, K - 1)
    return torch.where(either > 0, 2 * both / either, torch.nan)


def quality(logits: Tensor, scores: Tensor) -> Tensor:
    """Return whether the score is right, and how far it is off, float32 (N, 2).

    Parameters
    ----------
    logits : Tensor
        float (N, B), of score > 0 ... score > B - 1.
    scores : Tensor
        int64 (N,), 0 to B.
    """
    off = (ordinal_decode(logits.sigmoid()) - scores).abs()  # (N,)
    return torch.stack((off == 0, off), dim=1).to(torch.float32)


def accuracy(logits: Tensor, classes: Tensor) -> Tensor:
    """Return whether the likeliest class of float (N, K) is the int64 (N,) one, float32 (N,)."""
    return (logits.argmax(dim=1) == classes).to(torch.float32)

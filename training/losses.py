"""What fine-tuning makes small: pure functions of logits and targets."""

import torch
from torch import Tensor
from torch.nn import functional

#: Keeps Dice alive where a label is in no frame of the batch; in pixels.
SMOOTH_PX = 1.0


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - soft Dice, averaged over the labels, ().

    Each label's Dice is that of the whole batch at once, so a frame without the label costs only
    what is wrongly found there.

    Parameters
    ----------
    logits : Tensor
        float (N, K, H, W), channel 0 is background.
    labels : Tensor
        int64 (N, H, W), 0 to K - 1.
    """
    found = logits.float().softmax(dim=1)[:, 1:]  # (N, K - 1, H, W)
    truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:]  # (N, K - 1, H, W)
    both = (found * truth).sum(dim=(0, 2, 3))  # (K - 1,)
    either = found.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))  # (K - 1,)
    return 1 - ((2 * both + SMOOTH_PX) / (either + SMOOTH_PX)).mean()


def rarity(labels: Tensor, classes: int) -> Tensor:
    """Return what a place of each label weighs in cross entropy, float32 (K,).

    The root of how rare the label is: of a lesion of a thousandth of the volume a voxel weighs 32
    times the average one. Alike, its voxels are outvoted until all else is learned; weighed by the
    whole of it, they would outvote the rest wherever a lesion is small.

    Parameters
    ----------
    labels : Tensor
        int64, 0 to `classes` - 1; of any shape.
    classes : int
        K; one that is nowhere counts as if it were in one place.
    """
    counts = torch.bincount(labels.flatten(), minlength=classes).clamp(min=1)  # (K,)
    return (labels.numel() / counts.float()).sqrt()


def ordinal_targets(scores: Tensor, bits: int) -> Tensor:
    """Return the bits (score > 0, score > 1, ...) of int64 scores (N,), float32 (N, `bits`)."""
    return (scores[:, None] > torch.arange(bits, device=scores.device)).to(torch.float32)


def ordinal_loss(logits: Tensor, scores: Tensor, positive_weight: float = 2.0) -> Tensor:
    """Return binary cross entropy over the ordinal bits, those that are 1 weighing more, ().

    Parameters
    ----------
    logits : Tensor
        float (N, B), of score > 0 ... score > B - 1.
    scores : Tensor
        int64 (N,), 0 to B.
    positive_weight : float
        Weight of a bit that is 1 against one that is 0; the papers have 2.
    """
    return functional.binary_cross_entropy_with_logits(
        logits.float(),
        ordinal_targets(scores, logits.shape[1]),
        pos_weight=torch.tensor(positive_weight, device=logits.device),
    )

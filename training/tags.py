"""The tags as a vector y, and the loss of predicting it.

y is float32 (N, 10): the probe as two bits (linear, curvilinear), then the eight study groups. What
the scanner did not write is zeros, and teaches nothing: neither a wrong answer nor a right one.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from dicom_node.records import GROUPS

PROBE_BITS: Final = 2
TAG_BITS: Final = PROBE_BITS + len(GROUPS)


def known(y: Tensor) -> Tensor:
    """Return which bits stand for a tag that was written, bool (N, 10).

    The bits of the probe are known where one of them is set, and those of the groups likewise.
    """
    probe = y[:, :PROBE_BITS].any(dim=1, keepdim=True).expand(-1, PROBE_BITS)
    groups = y[:, PROBE_BITS:].any(dim=1, keepdim=True).expand(-1, TAG_BITS - PROBE_BITS)
    return torch.cat((probe, groups), dim=1)


def has_tags(y: Tensor) -> Tensor:
    """Return which frames have any tag, bool (N,)."""
    return y.any(dim=1)


def tag_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Return each frame's binary cross entropy over its known bits, (N,); 0 where it has none.

    Parameters
    ----------
    logits : Tensor
        float (N, 10).
    y : Tensor
        float (N, 10).
    """
    is_known = known(y)
    bits = functional.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
    return (bits * is_known).sum(dim=1) / is_known.sum(dim=1).clamp(min=1)


def tag_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean of `tag_losses` over the frames that have tags, (); 0 where none has."""
    return tag_losses(logits, y).sum() / has_tags(y).sum().clamp(min=1)


def tag_accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the part of each frame's known bits that is right, (N,); NaN where it has none."""
    is_known = known(y)
    is_right = ((logits > 0) == (y > 0)) & is_known
    return is_right.sum(dim=1) / is_known.sum(dim=1)  # 0 / 0 is NaN

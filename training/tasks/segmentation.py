"""Segmentation by soft Dice: background and one channel a label."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from models.encoders import Encoder
from models.unet import UNet
from training import losses, metrics
from training.config import FinetuneSettings
from training.tasks.supervised import Objective


def objective(settings: FinetuneSettings, encoder: Encoder, names: tuple[str, ...]) -> Objective:
    """Return what is wanted of a network that draws the labels `names`."""
    return Objective(
        network=UNet(encoder, classes=1 + len(names)),
        target="mask",
        loss=partial(_loss, cross_entropy=settings.cross_entropy),
        measure=_measure,
        # the mean first: it is what tables show
        measures=("dice", *(f"dice_{name}" for name in names if len(names) > 1)),
    )


def _loss(logits: Tensor, mask: Tensor, cross_entropy: float) -> Tensor:
    labels = _labels(mask, logits.shape[1])
    loss = losses.soft_dice_loss(logits, labels)
    if cross_entropy:
        loss = loss + cross_entropy * functional.cross_entropy(logits.float(), labels)
    return loss


def _measure(logits: Tensor, mask: Tensor) -> Tensor:
    dices = metrics.dice(logits, _labels(mask, logits.shape[1]))  # (N, K - 1)
    if dices.shape[1] == 1:
        return dices
    return torch.cat((dices.nanmean(dim=1, keepdim=True), dices), dim=1)  # (N, K)


def _labels(mask: Tensor, classes: int) -> Tensor:
    """Return int64 (N, H, W) in which values that are no label are background."""
    return mask.long().where(mask < classes, 0)

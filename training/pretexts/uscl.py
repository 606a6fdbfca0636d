"""Contrast within ultrasound clips, with the labels that there are: USCL.

A clip gives a pair: two pictures, each mixed of its second of three frames and one of the others.
The pictures of a pair belong together, those of other clips do not, and a classifier learns what
is labelled beside (USCL, MICCAI 2021, eq. 1). Where the published code does otherwise than the
paper, ``compat: code`` does as the code.
"""

from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from lightly.models.modules import SimCLRProjectionHead
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import GROUPS
from dicom_node.store.label_sets import class_sets
from models import encoders
from models.contrast import ContrastNetwork
from training import clips
from training.clips import Clip, Mixing, Pairs
from training.config import Count, PretrainSettings, Rate
from training.contrast import is_shared, mean_of_known, nt_xent
from training.contrasting import NETWORK, Contrasting, ContrastOptions, for_pairs
from training.loop import Batch, Networks
from training.pack import Pack
from training.recipes.reading import checked

Weight = Annotated[float, Field(ge=0)]
_GROUPS = "groups"


class Options(ContrastOptions):
    """Which pairs, and what of them."""

    #: where paper and published code differ; see docs/training.md
    compat: Literal["paper", "code"] = "paper"
    #: what the classifier learns: ``groups`` of the tags, or a class set of the readers
    labels: str = _GROUPS
    #: part of the labelled training clips whose label is used; 0 leaves the classifier out
    labelled: Annotated[float, Field(ge=0, le=1)] = 1.0
    #: of the contrast; 0 is supervised pretraining
    contrast_weight: Weight = 1.0
    #: of the cross entropy
    label_weight: Weight = 0.2
    #: of the Beta distribution of the mixing weights
    alpha: Rate = 0.5
    beta: Rate = 0.5
    features: Count = 256

    @model_validator(mode="after")
    def _teaches(self) -> "Options":
        if self.contrast_weight == 0 and self.labelled * self.label_weight == 0:
            raise ValueError("nothing is learned; raise contrast_weight, or label something")
        return self


class Uscl(Contrasting):
    """The pretext.

    Parameters
    ----------
    options : Options
    settings : PretrainSettings
    network : ContrastNetwork
        With a classifier where labels are used.
    """

    def __init__(
        self, options: Options, settings: PretrainSettings, network: ContrastNetwork
    ) -> None:
        super().__init__(options, settings, network, network)
        self._options = options
        self.encoder = cast(nn.Module, network.encoder)
        #: training clips, and those whose label is used
        self.counts: dict[str, int] = {}

    @property
    def measures(self) -> tuple[str, ...]:
        """The loss that chooses the epoch, and what the labels say."""
        return ("loss", *(("cross_entropy", "accuracy") if self._options.labelled else ()))

    def batches(self, pack: Pack, rows: NDArray[np.int64], **how: Any) -> Pairs:
        """Return pairs of the clips of some rows.

        Raises
        ------
        StoreError
            When a label is wanted and no clip has one, or when labels alone teach and all are
            the same.
        """
        options, found = self._options, clips.of_rows(pack, rows)
        labels = self._labels(pack, found, training=how["training"], seed=how["seed"])
        if how["training"]:
            is_labelled = labels.any(axis=1)
            self.counts = {"clips": len(found), "labelled_clips": int(is_labelled.sum())}
        mixing = Mixing(alpha=options.alpha, beta=options.beta, as_code=options.compat == "code")
        return self.begun(Pairs(pack, found, labels, mixing, **for_pairs(how)))

    def loss(self, turn: str, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum of contrast and cross entropy, and both."""
        options = self._options
        shared = is_shared(networks[turn], self.players[turn].network)
        projected, logits = networks[turn](batch["frames"])
        first, second = projected.tensor_split(2)
        contrast = nt_xent(first, second, options.temperature, shared=shared).mean()
        parts, loss = {"contrast": contrast}, options.contrast_weight * contrast
        if logits is not None:
            losses, is_known, _ = _by_labels(logits, batch["labels"])
            parts["cross_entropy"] = mean_of_known(losses, is_known, shared=shared)
            # the code adds up the means of both halves, where the paper has one
            terms = 2 if options.compat == "code" else 1
            loss = loss + options.label_weight * terms * parts["cross_entropy"]
        return parts | {"loss": loss}

    def measure(self, networks: Networks, batch: Batch) -> Tensor:
        """Return of each picture its contrast, cross entropy and whether its class is right.

        The last two are NaN without a label. Contrast chooses the epoch, as published; where it
        has no weight, cross entropy does.
        """
        projected, logits = networks[NETWORK](batch["frames"])
        first, second = projected.tensor_split(2)
        contrast = nt_xent(first, second, self._options.temperature, shared=False)
        if logits is None:
            return contrast[:, None]
        losses, is_known, is_right = _by_labels(logits, batch["labels"])
        losses = losses.masked_fill(~is_known, torch.nan)
        right = is_right.float().masked_fill(~is_known, torch.nan)
        chooses = contrast if self._options.contrast_weight else losses
        return torch.stack((chooses, losses, right), dim=1)

    def _labels(
        self, pack: Pack, found: list[Clip], *, training: bool, seed: int
    ) -> NDArray[np.float32]:
        options = self._options
        if not options.labelled:
            return np.zeros((len(found), 0), np.float32)
        labels = (
            clips.group_labels(pack, found)
            if options.labels == _GROUPS
            else clips.class_labels(pack, found, options.labels, len(_names(options.labels)))
        )
        if not labels.any() and (training or not options.contrast_weight):
            split = "training" if training else "validation"
            raise StoreError(
                f"none of {len(found)} {split} clips has a label of {options.labels!r}: harvest or "
                "label such clips, or set the option 'labelled: 0' in a recipe of your own"
            )
        if not training:
            return labels
        labels = clips.keep_share(labels, options.labelled, seed)
        if not options.contrast_weight:
            _check_apart(labels, options.labels)
        return labels


def _check_apart(labels: NDArray[np.float32], name: str) -> None:
    """Look for two labels that differ: where nothing else teaches, one alone teaches nothing."""
    known = labels[labels.any(axis=1)]
    if len(np.unique(known, axis=0)) < 2:
        raise StoreError(
            f"all {len(known)} training clips whose label is used bear the same of {name!r}, so "
            "there is nothing to tell apart; harvest or label others, or raise the option "
            "'labelled'"
        )


def _by_labels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross entropy, whether there is a label, and whether it is met, (2B,) each."""
    twice = labels.repeat(2, 1)  # (2B, K)
    # a row of zeros costs nothing
    losses = functional.cross_entropy(logits.float(), twice, reduction="none")
    is_right = twice.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0] > 0
    return losses, twice.any(dim=1), is_right


def _names(labels: str) -> tuple[str, ...]:
    if labels == _GROUPS:
        return GROUPS
    known = class_sets()
    if labels not in known:
        raise ConfigError(f"labels: {labels!r}: take {_GROUPS!r} or one of {', '.join(known)}")
    return known[labels].names


def build(settings: PretrainSettings) -> Uscl:
    """Return the pretext; its weights follow from torch's seed."""
    recipe = settings.strategy
    options = checked(recipe.options, Options, where=f"recipe {recipe.name}: options")
    encoder = encoders.build(settings.encoder, width=settings.encoder_width)
    deepest, as_code = encoder.channels[-1], options.compat == "code"
    classes = len(_names(options.labels))
    network = ContrastNetwork(
        encoder,
        SimCLRProjectionHead(deepest, deepest, options.features, batch_norm=False),
        nn.Linear(options.features if as_code else deepest, classes) if options.labelled else None,
        of_projection=as_code,
        apart=as_code,
    )
    return Uscl(options, settings, network)

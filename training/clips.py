"""Pairs of pictures that belong together, drawn from clips.

A clip is what one SOP instance holds: its frames in a pack, in the order of their numbers. They
may be three or more (three are drawn and two are mixed of them), two (the pair) or one (twice, in
two views). A pack brings frames of any size to its own.

What is drawn follows from the seed, the epoch and the step alone, as in `training.batches`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_node.errors import ConfigError, StoreError
from training import views
from training.batches import fitting
from training.pack import Pack
from training.pack.rows import NONE
from training.tags import PROBE_BITS

#: The rows of a pack that are a clip, in the order of time.
Clip = NDArray[np.int64]
_MIXED_OF: Final = 3


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How two pictures are mixed of three frames."""

    #: of the Beta distribution that the weights are drawn from
    alpha: float = 0.5
    beta: float = 0.5
    #: the published code: frames in any order, one weight for both, and views before mixing
    as_code: bool = False


@dataclass(frozen=True, kw_only=True)
class Triples:
    """Of what pairs are made: first, anchor and last frame, and how much of first and last."""

    #: int64 (B, 3), rows of a pack
    rows: NDArray[np.int64]
    #: float32 (B, 2); 1 is the frame itself, without the anchor
    weights: NDArray[np.float32]


def of_rows(pack: Pack, rows: NDArray[np.int64]) -> list[Clip]:
    """Return the clips of some rows, each in the order of time."""
    known = pack.rows
    order = np.lexsort((known.frame_number[rows], known.instance[rows]))
    starts = np.flatnonzero(np.diff(known.instance[rows][order])) + 1
    return [rows[part] for part in np.split(order, starts)] if len(rows) else []


def group_labels(pack: Pack, of: Sequence[Clip]) -> NDArray[np.float32]:
    """Return the study groups of clips, (n, 8), each row adding up to 1, or 0 without any."""
    groups = pack.tags()[[clip[0] for clip in of], PROBE_BITS:]
    shares: NDArray[np.float32] = groups / np.maximum(groups.sum(axis=1, keepdims=True), 1)
    return shares


def class_labels(pack: Pack, of: Sequence[Clip], name: str, count: int) -> NDArray[np.float32]:
    """Return the readers' class of clips, (n, `count`), 1 at the class.

    A clip is what its labelled frames are; where none is labelled or two differ, its row is zeros.

    Parameters
    ----------
    pack : Pack
    of : sequence of Clip
    name : str
        Of the class set.
    count : int
        Classes that it has.
    """
    place = list(pack.class_sets).index(name) if name in pack.class_sets else NONE
    found = np.zeros((len(of), count), np.float32)
    for row, clip in zip(found, of, strict=True):
        index, sets = pack.rows.class_index[clip], pack.rows.class_set[clip]
        said = np.unique(index[(sets == place) & (index != NONE)])
        if len(said) == 1:
            row[said[0]] = 1
    return found


def keep_share(labels: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """Return the labels of a part of the labelled clips, zeros for the others.

    Clips are drawn at random, at least one where `share` is above 0; with one seed a smaller part
    lies in a larger.
    """
    labelled = np.flatnonzero(labels.any(axis=1))
    count = min(max(round(share * len(labelled)), share > 0), len(labelled))
    kept = np.random.default_rng(seed).permutation(labelled)[:count]
    found = np.zeros_like(labels)
    found[kept] = labels[kept]
    return found


@dataclass(frozen=True, eq=False)
class Pairs:
    """Batches of pairs, one of each clip: all first pictures, then all second ones.

    For training, clips are shuffled and a last short batch is dropped unless it is the only one.
    Otherwise all clips come in order, drawn alike in every epoch; a batch is not shared out but
    goes to one process as a whole, since its clips are each other's negatives.

    Raises
    ------
    ConfigError
        When a batch cannot be shared out evenly.
    StoreError
        When there are too few clips.
    """

    pack: Pack
    clips: Sequence[Clip]
    #: float32 (n, K), of each clip; K may be 0
    labels: NDArray[np.float32]
    mixing: Mixing
    _: KW_ONLY
    #: clips a step, of all processes together
    batch_size: int
    seed: int
    training: bool
    rank: int
    world: int
    device: torch.device

    def __post_init__(self) -> None:
        needed = 2 * self.world if self.training else 2
        if len(self.clips) < needed:
            split = "training" if self.training else "validation"
            raise StoreError(
                f"{len(self.clips)} {split} clip(s), contrast needs {needed} or more to tell "
                "apart; harvest more studies, or use fewer devices"
            )
        if self.training and self._batch_size % self.world:
            raise ConfigError(
                f"batch size {self.batch_size} is no multiple of {self.world} processes; "
                "choose one that is"
            )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        if self.training:
            return len(self.clips) // self._batch_size
        return math.ceil(self._whole / self.world)

    def epoch(self, number: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's part of each batch.

        Yields
        ------
        dict of Tensor, on the device
            ``frames`` float32 (2B, 1, H, W), 0 to 255; ``labels`` float32 (B, K). B may be 0 for
            some processes in the last step of an evaluation.
        """
        order = np.arange(len(self.clips))
        if self.training:
            order = np.random.default_rng((self.seed, number, 0)).permutation(order)
        for step in range(len(self)):
            batch, whole, part = self._places(order, step)
            rng = np.random.default_rng((self.seed, number, 1 + batch))
            triples = draw([self.clips[place] for place in whole], self.mixing, rng)
            if self.mixing.as_code and not self.training:
                triples.weights[:] = 1  # the published code validates on frames as they are
            looks = _MIXED_OF if self.mixing.as_code else 2
            seen = views.draw(looks * len(whole), rng)
            seen = seen.reshape(looks, len(whole), views.NUMBERS)[:, part]
            frames = self._mixed(triples.rows[part], triples.weights[part], seen)
            labels = torch.from_numpy(self.labels[whole[part]])
            yield {"frames": frames, "labels": labels.to(self.device)}

    @property
    def _batch_size(self) -> int:
        return fitting(self.batch_size, len(self.clips), self.world)

    @property
    def _whole(self) -> int:
        """How many batches an evaluation has; none is shorter than the batch size."""
        return max(1, len(self.clips) // self.batch_size)

    def _places(
        self, order: NDArray[np.int64], step: int
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Return a batch's number, its clips, and which of them are for this process."""
        if self.training:
            whole = order[step * self._batch_size : (step + 1) * self._batch_size]
            return step, whole, np.array_split(np.arange(len(whole)), self.world)[self.rank]
        number = step * self.world + self.rank
        whole = np.array_split(order, self._whole)[number] if number < self._whole else order[:0]
        return number, whole, np.arange(len(whole))

    def _mixed(
        self, rows: NDArray[np.int64], weights: NDArray[np.float32], seen: NDArray[np.float32]
    ) -> Tensor:
        """Mix (B, 3) rows to 2B pictures, and take their views, before or after."""
        size = self.pack.size
        pictures = self._moved(self.pack.frames[rows.T.reshape(-1)]).float()
        pictures = pictures.reshape(-1, 1, size.height, size.width)  # (3B, 1, H, W)
        shown = self._moved(seen.reshape(-1, views.NUMBERS))
        parts = self._moved(weights)
        if self.mixing.as_code:
            return mix(views.apply(pictures, shown), parts)
        return views.apply(mix(pictures, parts), shown)

    def _moved(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def of_stills(pack: Pack, rows: NDArray[np.int64], **how: Any) -> Pairs:
    """Return two views of each row, as if it were a clip of its own; `how` is what `Pairs` take."""
    return Pairs(pack, list(rows[:, None]), np.zeros((len(rows), 0), np.float32), Mixing(), **how)


def draw(of: Sequence[Clip], mixing: Mixing, rng: np.random.Generator) -> Triples:
    """Draw of each clip what its pair is made of.

    Three frames in the order of time give two mixtures with the second, each by its own weight;
    two frames are the pair, in the order of time; one is both.
    """
    rows = np.empty((len(of), _MIXED_OF), np.int64)
    weights = rng.beta(mixing.alpha, mixing.beta, (len(of), 2)).astype(np.float32)
    for place, clip in enumerate(of):
        if len(clip) < _MIXED_OF:
            rows[place], weights[place] = (clip[0], clip[0], clip[-1]), 1
            continue
        chosen = rng.choice(len(clip), _MIXED_OF, replace=False)
        rows[place] = clip[chosen if mixing.as_code else np.sort(chosen)]
    if mixing.as_code:
        weights[:, 1] = weights[:, 0]
    return Triples(rows=rows, weights=weights)


def mix(pictures: Tensor, weights: Tensor) -> Tensor:
    """Mix first and last pictures with the anchors.

    Parameters
    ----------
    pictures : Tensor, float32 (3B, 1, H, W)
        All first ones, all anchors, all last ones.
    weights : Tensor, float32 (B, 2)
        How much of the first and of the last.

    Returns
    -------
    Tensor, float32 (2B, 1, H, W)
        All first mixtures, then all second ones.
    """
    first, anchor, last = pictures.tensor_split(3)
    part = weights.T.reshape(-1)[:, None, None, None]  # (2B, 1, 1, 1)
    return part * torch.cat((first, last)) + (1 - part) * torch.cat((anchor, anchor))

"""What the networks of finished cells say of test frames, for the pictures of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_node.records import Task
from models.context_encoder import cut, paste
from training import pretexts, runs, tasks
from training.pack import Pack
from training.pretexts.context_encoder import ContextEncoding, F, Filler
from training.reproduce.cells import FinetuneCell, PretrainCell
from training.tasks import labels

_BATCH = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """Frames with a hole and without, float32 (N, H, W), z-scored."""

    whole: NDArray[np.float32]
    hole: NDArray[np.float32]
    filled: NDArray[np.float32]


def fill(cell: PretrainCell, run: Path, frames: NDArray[np.uint8]) -> Filled | None:
    """Fill the holes of frames, uint8 (N, H, W), by a pretrained network.

    Returns
    -------
    Filled or None
        None when the cell's pretext fills no holes.

    Raises
    ------
    StoreError
        When the run has no weights of this network.
    """
    pretext = pretexts.build(cell.settings)
    if not isinstance(pretext, ContextEncoding):
        return None
    filler = cast(Filler, pretext.players[F].network)
    runs.load(run / runs.NETWORK, filler)
    filler.eval()
    with torch.inference_mode():
        images = _images(frames)  # (N, 1, H, W)
        whole = filler.context.normalise(images)
        hole, _ = cut(whole)
        patch, _, _ = filler(images)
        filled = paste(whole, patch)
    return Filled(whole=_planes(whole), hole=_planes(hole), filled=_planes(filled))


def probabilities(
    cell: FinetuneCell, run: Path, pack: Pack, rows: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return what a fine-tuned network gives for some rows of a pack.

    Returns
    -------
    ndarray of float32
        (N, K, H, W) of a segmentation, (N, K) of the others.

    Raises
    ------
    StoreError
        When the run has no weights of this network.
    """
    network = tasks.build(cell.settings, labels.names(pack, cell.settings)).network
    runs.load(run / runs.NETWORK, network)
    network.eval()
    ask = cast("_Asked", network).probabilities
    found = []
    with torch.inference_mode():
        for begin in range(0, len(rows), _BATCH):
            frames = np.asarray(pack.frames[np.asarray(rows[begin : begin + _BATCH])])
            found.append(ask(_images(frames)).float().numpy())
    return np.concatenate(found)


def classes(cell: FinetuneCell, found: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the class or quality score that probabilities (N, K) mean, int64 (N,)."""
    if cell.settings.task is Task.QUALITY:
        # the score is the number of leading bits that are more likely than not
        return np.asarray((found > 0.5).cumprod(axis=1).sum(axis=1), np.int64)
    return np.asarray(found.argmax(axis=1), np.int64)


class _Asked(nn.Module):
    """What all networks of tasks have."""

    def probabilities(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to probabilities."""
        raise NotImplementedError


def _images(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(frames))[:, None]  # (N, 1, H, W)


def _planes(images: Tensor) -> NDArray[np.float32]:
    return cast(NDArray[np.float32], images[:, 0].float().numpy())  # (N, H, W)

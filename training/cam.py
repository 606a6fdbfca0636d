"""Grad-CAM: which part of a frame spoke for a class, by captum.

The score is the class's logit above the mean of all: exclusive classes fix logits but for what is
added to all of them, so the logit alone may fall everywhere in a frame and leave an empty map.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from captum.attr import LayerGradCam
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import Task
from models.encoders import Encoder
from training import runs, tasks
from training.config import FinetuneSettings, Size
from training.pack import Pack
from training.tasks import labels

_CELL_INCHES: Final = 2.2
_DOTS_PER_INCH: Final = 110
_OPACITY: Final = 0.45
#: cells of a map along the shorter side, if nothing else is asked for: those of 224 pixels and the
#: deepest features, which maps are usually made of
_CELLS: Final = 7


class Spoken(StrEnum):
    """Which class a map is about."""

    TRUE = "true"
    SAID = "said"


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a run says of frames, and why."""

    #: int64, (N,)
    predicted: NDArray[np.int64]
    #: float32, (N, H, W), 0 to 1: the part that spoke for the class; 0 where nothing did
    maps: NDArray[np.float32]


def tested(run: Path, pack: Pack, count: int) -> NDArray[np.int64]:
    """Return rows of a pack that a run was tested on, of each class in turn.

    Parameters
    ----------
    run : Path
        Folder of a finished classification.
    pack : Pack
        With its frames.
    count : int
        How many; fewer where there are not so many.

    Raises
    ------
    StoreError
        When the run has no test frames that the pack holds.
    """
    try:
        with np.load(run / runs.SCORES, allow_pickle=False) as found:
            rows = np.flatnonzero(np.isin(pack.rows.frame_id, found["frame_id"]))
    except (OSError, ValueError, KeyError) as exc:
        raise StoreError(
            f"{run}: no test frames here ({type(exc).__name__}); name a finished run"
        ) from None
    if not len(rows):
        raise StoreError(
            f"{run}: was tested on other frames; name the index or the pack of the run"
        )
    classes = pack.rows.class_index[rows]
    by_class = [rows[classes == place] for place in np.unique(classes)]
    share = -(-count // len(by_class))
    spread = [of[np.linspace(0, len(of) - 1, min(share, len(of))).astype(int)] for of in by_class]
    return np.concatenate(spread)[:count]


def look(
    run: Path,
    pack: Pack,
    rows: NDArray[np.int64],
    *,
    spoken: Spoken = Spoken.TRUE,
    stride: int | None = None,
) -> Seen:
    """Return what a run says of frames, and what of them spoke for a class.

    Parameters
    ----------
    run : Path
        Folder of a finished classification.
    pack : Pack
    rows : ndarray of int64
        The frames.
    spoken : Spoken
        The true class, or the one that the run says.
    stride : int, optional
        Pixels a cell of the map; `stride_for` without it.

    Raises
    ------
    ConfigError
        When the encoder has no features of this stride, or the run had frames of another size.
    StoreError
        When the run is none of a classification, or its weights were not kept.
    """
    settings = runs.read(run).settings
    if not isinstance(settings, FinetuneSettings) or settings.task is not Task.CLASSIFICATION:
        raise StoreError(f"{run}: no classification; name a run that tells classes apart")
    if settings.size != pack.size:
        raise ConfigError(
            f"{run}: learned from frames of {settings.size}, and these are {pack.size}; draw runs "
            "of one size in one picture"
        )
    task = tasks.build(settings, labels.names(pack, settings))
    network = task.network
    stage = _stage(task.encoder, stride or stride_for(task.encoder, settings.size))
    runs.load(run / runs.NETWORK, network)
    network.eval().requires_grad_(requires_grad=True)
    frames = torch.from_numpy(pack.frames[rows][:, None]).float()
    with torch.no_grad():
        predicted = network(frames).argmax(dim=1)
    truth = torch.from_numpy(pack.rows.class_index[rows].astype(np.int64))
    classes = predicted if spoken is Spoken.SAID else truth
    maps = heat(network, stage, frames, classes)
    return Seen(predicted=predicted.numpy(), maps=maps.numpy())


def stride_for(encoder: Encoder, size: Size) -> int:
    """Return the stride of the deepest features that have 7 cells a side, or of the finest."""
    shorter = min(size.height, size.width)
    enough = [stride for stride in encoder.strides if shorter // stride >= _CELLS]
    return enough[-1] if enough else encoder.strides[0]


def _stage(encoder: Encoder, stride: int) -> nn.Module:
    if stride not in encoder.strides:
        known = ", ".join(map(str, encoder.strides))
        raise ConfigError(f"--stride {stride}: features of this encoder have {known}; take one")
    return encoder.stages[encoder.strides.index(stride)]


def heat(network: nn.Module, stage: nn.Module, frames: Tensor, classes: Tensor) -> Tensor:
    """Return what spoke for a class of each frame, float32 (N, H, W), each 0 to 1.

    Parameters
    ----------
    network : nn.Module
        From frames to logits (N, K).
    stage : nn.Module
        Of the network; its output are the features that the map is made of.
    frames : Tensor, float32 (N, 1, H, W)
    classes : Tensor, int64 (N,)
    """

    def above_mean(pixels: Tensor) -> Tensor:
        logits: Tensor = network(pixels)
        return logits - logits.mean(dim=1, keepdim=True)

    coarse = LayerGradCam(above_mean, stage).attribute(
        frames.clone().requires_grad_(), target=classes, relu_attributions=True
    )
    fine = functional.interpolate(
        cast(Tensor, coarse).detach(), frames.shape[2:], mode="bilinear", align_corners=False
    )[:, 0]
    # a frame in which nothing spoke for the class stays 0
    return fine / fine.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(fine.dtype).tiny)


def picture(
    frames: NDArray[np.uint8],
    seen: Mapping[str, Seen],
    truth: Sequence[str],
    names: Sequence[str],
) -> bytes:
    """Return a PNG: a line a frame, first as it is, then what each run looked at.

    Above a map stands the class that the run says, and that nothing spoke where the map is empty.

    Parameters
    ----------
    frames : ndarray of uint8, (N, H, W)
    seen : mapping of str to Seen
        By the name that stands above the column.
    truth : sequence of str
        Class of each frame.
    names : sequence of str
        Of the classes.
    """
    columns = 1 + len(seen)
    figure = Figure(
        figsize=(columns * _CELL_INCHES, len(frames) * _CELL_INCHES),
        dpi=_DOTS_PER_INCH,
        layout="constrained",
    )
    axes = figure.subplots(len(frames), columns, squeeze=False)
    for place, line in enumerate(axes):
        for axis in line:
            axis.imshow(frames[place], cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
        line[0].set_title(truth[place], fontsize=8)
        for axis, (name, what) in zip(line[1:], seen.items(), strict=True):
            axis.imshow(what.maps[place], cmap="inferno", vmin=0, vmax=1, alpha=_OPACITY)
            empty = "" if what.maps[place].any() else " (nothing)"
            axis.set_title(f"{name}: {names[what.predicted[place]]}{empty}", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()

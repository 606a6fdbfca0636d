"""Grad-CAM: which part of a frame spoke for a class, by captum."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from captum.attr import LayerGradCam
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dicom_node.errors import StoreError
from dicom_node.records import Task
from training import runs, tasks
from training.config import FinetuneSettings
from training.pack import Pack
from training.tasks import labels

_CELL_INCHES: Final = 2.2
_DOTS_PER_INCH: Final = 110
_OPACITY: Final = 0.45


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a run says of frames, and why."""

    #: int64, (N,)
    predicted: NDArray[np.int64]
    #: float32, (N, H, W), 0 to 1: the part that spoke for the true class
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


def look(run: Path, pack: Pack, rows: NDArray[np.int64]) -> Seen:
    """Return what a run says of frames, and what of them spoke for their true class.

    Raises
    ------
    StoreError
        When the run is none of a classification, or its weights were not kept.
    """
    settings = runs.read(run).settings
    if not isinstance(settings, FinetuneSettings) or settings.task is not Task.CLASSIFICATION:
        raise StoreError(f"{run}: no classification; name a run that tells classes apart")
    network = tasks.build(settings, labels.names(pack, settings)).network
    runs.load(run / runs.NETWORK, network)
    network.eval().requires_grad_(requires_grad=True)
    frames = torch.from_numpy(pack.frames[rows][:, None]).float()
    truth = torch.from_numpy(pack.rows.class_index[rows].astype(np.int64))
    with torch.no_grad():
        predicted = network(frames).argmax(dim=1)
    return Seen(predicted=predicted.numpy(), maps=heat(network, frames, truth).numpy())


def heat(network: nn.Module, frames: Tensor, classes: Tensor) -> Tensor:
    """Return what spoke for a class of each frame, float32 (N, H, W), each 0 to 1.

    Parameters
    ----------
    network : nn.Module
        With a ``head`` that reads the deepest features.
    frames : Tensor, float32 (N, 1, H, W)
    classes : Tensor, int64 (N,)
    """
    method = LayerGradCam(network, network.get_submodule("head"))
    coarse = method.attribute(
        frames.clone().requires_grad_(),
        target=classes,
        attribute_to_layer_input=True,
        relu_attributions=True,
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
            axis.set_title(f"{name}: {names[what.predicted[place]]}", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()

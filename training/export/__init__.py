"""From a run to one ``.onnx`` bundle, or to nothing at all.

Network of the run -> ONNX graph -> onnxruntime must give what torch gives, on real frames, one at a
time and together -> manifest and digest into the file -> ``.part``, fsync, rename. See
`dicom_node.bundle` for what a bundle holds.
"""

import re
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dicom_node.bundle import SERVED_TASKS, Manifest
from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import Task
from dicom_node.store.label_sets import label_set
from training import runs, tasks
from training.config import FinetuneSettings
from training.export.bundle_file import Served, write_bundle
from training.export.describing import Bundling, describe

__all__ = ["Bundling", "check", "export"]

_MADE_BY = {"fold": "folds", "detect": "detect"}


def export(run: Path, out: Path, bundling: Bundling | None = None) -> Manifest:
    """Write the network of a finished run as a bundle; the file appears whole or not at all.

    Parameters
    ----------
    run : Path
        Folder of a run of fine-tuning.
    out : Path
        The ``.onnx`` file; one that is there is replaced.
    bundling : Bundling, optional
        What a bundle says of itself that training does not know.

    Returns
    -------
    Manifest
        As it stands in the file.

    Raises
    ------
    ConfigError
        When the file is named otherwise, or the node does not serve the task.
    StoreError
        When the run is not one of fine-tuning, not finished, or damaged.
    BundleError
        When torch and onnxruntime disagree; nothing is written.
    """
    wanted = bundling or Bundling()
    info = runs.read(run)
    settings = info.settings
    if not isinstance(settings, FinetuneSettings):
        raise StoreError(f"{run}: a pretraining answers nothing yet; fine-tune from it first")
    if info.kind != "finetune":
        raise StoreError(f"{run}: a run of 'train {_MADE_BY[info.kind]}' is not served; fine-tune")
    check(out, wanted, settings.task)
    if info.finished_at is None:
        raise StoreError(f"{run}: not finished; give the same 'train finetune' again to go on")
    out.parent.mkdir(parents=True, exist_ok=True)
    return write_bundle(
        out, _network(run, settings), _sample(run), partial(describe, info, settings, wanted)
    )


def check(out: Path, bundling: Bundling, task: Task) -> None:
    """Refuse what cannot be exported, before time is spent on it.

    Raises
    ------
    ConfigError
        Says what would do.
    """
    if task not in SERVED_TASKS:
        raise ConfigError(
            f"a {task} model: the node serves {' and '.join(SERVED_TASKS)} only, it has no report "
            "for a class of a frame; use network.pt of the run in a program of your own"
        )
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: the node serves files that end in .onnx; name it so")
    if bundling.name and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", bundling.name):
        raise ConfigError(
            f"--name {bundling.name!r}: give 1 to 64 of a-z, 0-9 and -, the first no -"
        )


def _network(run: Path, settings: FinetuneSettings) -> Served:
    names = () if settings.labels is None else label_set(settings.labels).names
    network = tasks.build(settings, names).network
    runs.load(run / runs.NETWORK, network)
    return cast(Served, network.eval())


def _sample(run: Path) -> NDArray[np.uint8]:
    try:
        sample: NDArray[np.uint8] = np.load(run / runs.SAMPLE, allow_pickle=False)
    except (OSError, ValueError) as exc:
        raise StoreError(
            f"{run / runs.SAMPLE}: cannot be read ({type(exc).__name__}); run the fine-tuning again"
        ) from None
    return sample

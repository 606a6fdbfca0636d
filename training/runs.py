"""The folder of a run: what was asked for, how far it is, and what came out.

``run.json`` says what the run is; ``checkpoint.pt`` is there while it is not finished. Weights are
state dicts and nothing else, so that loading them runs no code.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, Literal

import torch
from pydantic import Field, ValidationError
from torch import nn

from dicom_node.errors import ConfigError, StoreError
from training.code_version import code_version
from training.config import (
    DetectSettings,
    FinetuneSettings,
    PretrainSettings,
    SeriesSettings,
    Settings,
    VolumeSegmentSettings,
)

INFO: Final = "run.json"
CHECKPOINT: Final = "checkpoint.pt"
#: of a pretraining: the encoder alone, and the whole of what learned
ENCODER: Final = "encoder.pt"
NETWORK: Final = "network.pt"
#: of a fine-tuning: measures on the test frames, one array a column, ...
SCORES: Final = "scores.npz"
#: ... those that say which frames they are, and which of them are of one patient ...
IDENTITIES: Final = ("frame_id", "patient")
#: ... and real frames of validation patients, on which export compares torch and onnxruntime
SAMPLE: Final = "sample.npy"
_STORE: Final = "store version"
#: how a half-done run finds what it began with, by kind: there are no packs of volumes
_PACK: Final = "give --pack with the pack of that version"
_AS_BEFORE: Final = {
    "series": "give --store with a copy of the store from before",
    "segment volumes": "give --masks with the files of before",
}


class RunInfo(Settings):
    """What a run is, and what came of it."""

    #: ``fold`` and ``detect`` are fine-tunings that evaluation and export know nothing of
    kind: Literal["pretrain", "finetune", "fold", "detect", "series", "segment volumes"]
    settings: (
        PretrainSettings
        | FinetuneSettings
        | DetectSettings
        | SeriesSettings
        | VolumeSegmentSettings
    )
    store_version: str
    #: with the commit, where training runs from a checkout
    code_version: str = Field(default_factory=code_version)
    #: name of the weights that it began with
    start: str = "random"
    training_frames: int = 0
    #: what else of the training frames is counted, as clips and how many of them are labelled
    counts: dict[str, int] = Field(default_factory=dict)
    #: of the chosen epoch; ``validation_...`` and ``test_...``
    metrics: dict[str, float] = Field(default_factory=dict)
    #: the epoch whose weights were kept
    best_epoch: int | None = None
    seconds: float = 0.0
    finished_at: datetime | None = None

    def finished(self, **found: Any) -> "RunInfo":
        """Return this run with what came out of it, finished now."""
        return self.model_copy(update={**found, "finished_at": datetime.now(UTC)})


def unfinished(folder: Path) -> RunInfo | None:
    """Return what a folder says of a run that goes on from a checkpoint; None without one.

    Raises
    ------
    StoreError
        When the folder's run is damaged.
    """
    if not (folder / CHECKPOINT).exists():
        return None
    info = read(folder)
    return info if info.finished_at is None else None


def begin(folder: Path, info: RunInfo) -> RunInfo:
    """Make the folder of a run, or find the same run in it.

    Returns
    -------
    RunInfo
        `info`, or what the folder says of this run: it may be finished.

    Raises
    ------
    ConfigError
        When the folder holds another run, or something else.
    """
    if not (folder / INFO).exists():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder}: holds something that is no run; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, info)
        return info
    found = read(folder)
    difference = _difference(found, info)
    if difference and found.finished_at is None and not (folder / CHECKPOINT).exists():
        # it ended before its first epoch did: nothing is lost
        write(folder, info)
        return info
    if difference:
        cure = "name another folder, or delete this one"
        if found.finished_at is None and difference.startswith(_STORE):
            cure = f"{_AS_BEFORE.get(found.kind, _PACK)}, {cure}"
        raise ConfigError(f"{folder}: holds a run with {difference}; {cure}")
    return found


def read(folder: Path) -> RunInfo:
    """Return what a folder says of its run.

    Raises
    ------
    StoreError
        When it holds no run.
    """
    try:
        return RunInfo.model_validate_json((folder / INFO).read_bytes())
    except OSError as exc:
        raise StoreError(
            f"{folder}: no run here ({INFO}: {exc.strerror}); name the folder of a run"
        ) from None
    except ValidationError:
        raise StoreError(f"{folder / INFO}: damaged, or of another version; run it again") from None


def write(folder: Path, info: RunInfo) -> None:
    """Write what a run is; a reader sees the old file or the new one."""
    replace(folder / INFO, info.model_dump_json(indent=2).encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors so that they are there whole, or as they were before."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        torch.save(state, file)  # noqa: TID251
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Return what `save` wrote, on the CPU.

    Raises
    ------
    StoreError
        When the file cannot be read, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read ({exc.strerror})") from None
    except (EOFError, RuntimeError, UnpicklingError) as exc:
        raise StoreError(f"{path}: no weights ({_first_line(exc)}); give a .pt file") from None
    if not isinstance(state, dict):
        raise StoreError(f"{path}: no weights ({type(state).__name__}); give a .pt file")
    return state


def load(path: Path, network: nn.Module) -> None:
    """Fill a network with saved weights.

    Raises
    ------
    StoreError
        When the file holds no weights, or those of another network.
    """
    state = load_state(path)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as exc:
        raise StoreError(
            f"{path}: the weights of another network ({_first_line(exc)}); "
            "give those of a run with the same encoder"
        ) from None


def _difference(found: RunInfo, wanted: RunInfo) -> str:
    """Say in what two runs differ, "" where they are the same."""
    ours, theirs = _flat(wanted), _flat(found)
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{key} {theirs.get(key)}, not {ours.get(key)}"
    return ""


def _flat(info: RunInfo) -> dict[str, object]:
    kept = {"kind": info.kind, _STORE: info.store_version, "start": info.start}
    return kept | info.settings.model_dump(mode="json")


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]

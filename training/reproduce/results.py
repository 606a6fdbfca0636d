"""What the finished cells of a matrix left in their folders."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.records import Task
from training import runs
from training.reproduce.cells import Cell, FinetuneCell, Plan

RUNS: Final = "runs"
SCORES: Final = "scores.npz"
#: The measure that stands in the table, as a column of the scores and in words.
COLUMN: Final = {
    Task.SEGMENTATION: "dice",
    Task.QUALITY: "accuracy",
    Task.CLASSIFICATION: "accuracy",
}
MEASURE: Final = {
    Task.SEGMENTATION: "Dice",
    Task.QUALITY: "accuracy",
    Task.CLASSIFICATION: "accuracy",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A finished fine-tuning on the frames of the test split."""

    cell: FinetuneCell
    info: runs.RunInfo
    #: (N,)
    frame_id: NDArray[np.str_]
    #: (N,)
    patient: NDArray[np.int64]
    #: the cell's measure of each frame, float64 (N,); NaN where it does not count
    score: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean over the frames that count; NaN where none does."""
        counting = self.score[np.isfinite(self.score)]
        return float(counting.mean()) if len(counting) else math.nan


def folder_of(out: Path, cell: Cell) -> Path:
    """Return the folder of a cell's run."""
    return out / RUNS / cell.name


def finished(out: Path, cell: Cell) -> runs.RunInfo | None:
    """Return what came of a cell, None while it is not finished.

    Raises
    ------
    StoreError
        When its ``run.json`` is damaged.
    """
    folder = folder_of(out, cell)
    if not (folder / runs.INFO).exists():
        return None
    info = runs.read(folder)
    return info if info.finished_at is not None else None


def store_version(plan: Plan, out: Path) -> str | None:
    """Return which version of the store a matrix learns from, None before its first cell.

    Raises
    ------
    StoreError
        When a ``run.json`` is damaged.
    """
    folders = (folder_of(out, cell) for cell in plan.cells)
    infos = [runs.read(folder) for folder in folders if (folder / runs.INFO).exists()]
    # a cell that is not finished may still be begun anew, with another store
    infos.sort(key=lambda info: info.finished_at is None)
    return infos[0].store_version if infos else None


def read(plan: Plan, out: Path) -> list[Result]:
    """Return what is finished of a plan, in its order.

    Raises
    ------
    StoreError
        When a file of a finished cell is damaged.
    """
    found = ((cell, finished(out, cell)) for cell in plan.finetune)
    return [_result(out, cell, info) for cell, info in found if info is not None]


def _result(out: Path, cell: FinetuneCell, info: runs.RunInfo) -> Result:
    path = folder_of(out, cell) / SCORES
    try:
        with np.load(path, allow_pickle=False) as columns:
            return Result(
                cell=cell,
                info=info,
                frame_id=columns["frame_id"],
                patient=columns["patient"],
                score=columns[COLUMN[cell.settings.task]].astype(np.float64),
            )
    except (OSError, KeyError, ValueError, BadZipFile) as exc:
        raise StoreError(
            f"{path}: damaged ({type(exc).__name__}); delete the folder and run the matrix again"
        ) from None


def mean_of(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each column, (R, N) to (N,), over what counts; NaN where nothing does."""
    counting = np.isfinite(rows)
    count = counting.sum(axis=0)
    total = np.where(counting, rows, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)

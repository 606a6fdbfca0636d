"""What a run of fine-tuning is worth, and whether it beats another."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from training import runs
from training.statistics import DRAWS, PART, Bootstrap, bootstrap, paired, wilcoxon


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Measures on the test frames of a run."""

    #: (N,)
    frame_id: NDArray[np.str_]
    #: int, (N,); equal for frames of one patient
    patient: NDArray[np.int32]
    #: float64 (N,) by the name of the measure; NaN where a frame was not asked
    measures: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measure of a run, as the papers give it, and by patients."""

    #: frames and patients that count
    frames: int
    patients: int
    #: of draws of half of the frames
    by_frame: Bootstrap
    #: of draws of half of the patients
    by_patient: Bootstrap


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One measure of two runs on the same frames."""

    #: mean over the frames that count in both
    ours: float
    theirs: float
    #: two-sided, by drawing frames, by drawing patients, and by Wilcoxon's test
    p_frames: float
    p_patients: float
    p_wilcoxon: float


def read_scores(run: Path) -> Scores:
    """Return the scores of a finished run of fine-tuning.

    Raises
    ------
    StoreError
        When the folder holds none.
    """
    info = runs.read(run)
    if info.kind != "finetune":
        why = "a pretraining has no scores; fine-tune from it first"
        if info.kind != "pretrain":
            why = "has its own report or numbers; name a run of 'train finetune'"
        raise StoreError(f"{run}: {why}")
    if info.finished_at is None:
        raise StoreError(f"{run}: not finished; give the same 'train finetune' again to go on")
    try:
        with np.load(run / runs.SCORES, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        identities = {name: columns.pop(name) for name in runs.IDENTITIES}
    except (OSError, KeyError, ValueError, BadZipFile) as exc:
        raise StoreError(
            f"{run / runs.SCORES}: damaged ({type(exc).__name__}); run the fine-tuning again"
        ) from None
    if not len(identities["frame_id"]):
        raise StoreError(
            f"{run}: no labelled patient falls into the split 'test'; label frames of more "
            "patients (10 or more are safe) and run it again"
        )
    return Scores(**identities, measures=columns)


def evaluate(
    run: Path, *, draws: int = DRAWS, part: float = PART, seed: int = 0
) -> dict[str, Measured]:
    """Return each measure of a run with its spread over draws of the test set.

    Parameters
    ----------
    run : Path
        Folder of a run of fine-tuning.
    draws, part, seed
        As in `training.statistics.bootstrap`.

    Raises
    ------
    StoreError
        When the run has no scores.
    """
    scores = read_scores(run)
    return {
        name: _measured(values, scores.patient, draws=draws, part=part, seed=seed)
        for name, values in scores.measures.items()
        if np.isfinite(values).any()
    }


def compare(ours: Path, theirs: Path, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Compared]:
    """Return each measure of two runs, with how likely so large a difference is by chance.

    Raises
    ------
    StoreError
        When the runs were not measured on the same frames, or have no measure in common.
    """
    one, other = read_scores(ours), read_scores(theirs)
    if not np.array_equal(one.frame_id, other.frame_id):
        common = len(np.intersect1d(one.frame_id, other.frame_id))
        raise StoreError(
            f"{ours} was measured on {len(one.frame_id)} test frames and {theirs} on "
            f"{len(other.frame_id)}, of which {common} are the same; compare runs on the same "
            "store, task and labels"
        )
    found = {
        name: _compared(values, other.measures[name], one.patient, draws=draws, seed=seed)
        for name, values in one.measures.items()
        if name in other.measures and np.isfinite(values - other.measures[name]).any()
    }
    if not found:
        raise StoreError(f"{ours} and {theirs} have no measure in common; compare runs of one task")
    return found


def _measured(
    values: NDArray[np.float64], patient: NDArray[np.int32], *, draws: int, part: float, seed: int
) -> Measured:
    counting = np.isfinite(values)
    return Measured(
        frames=int(counting.sum()),
        patients=len(np.unique(patient[counting])),
        by_frame=bootstrap(values, draws=draws, part=part, seed=seed),
        by_patient=bootstrap(values, draws=draws, part=part, seed=seed, clusters=patient),
    )


def _compared(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    patient: NDArray[np.int32],
    *,
    draws: int,
    seed: int,
) -> Compared:
    counting = np.isfinite(ours - theirs)
    return Compared(
        ours=float(ours[counting].mean()),
        theirs=float(theirs[counting].mean()),
        p_frames=paired(ours, theirs, draws=draws, seed=seed),
        p_patients=paired(ours, theirs, draws=draws, seed=seed, clusters=patient),
        p_wilcoxon=wilcoxon(ours, theirs),
    )

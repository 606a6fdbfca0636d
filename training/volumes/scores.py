"""What a run answered for the test volumes, and the slides' scores of it."""

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from dicom_node.store.volumes import REGIONS
from training import runs
from training.volumes.targets import CHOICES

Floats = NDArray[np.float32]
_FIRST_REGION: Final = len(CHOICES)
_DICE: Final = "dice_"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """One row a test volume."""

    measures: tuple[str, ...]
    #: (N, M)
    rows: Floats
    patients: tuple[str, ...]
    #: of naming series: what is known, and what was answered
    targets: Floats | None
    answers: Floats | None

    def means(self) -> dict[str, float]:
        """Return the mean of each measure that counts, as metrics of the run."""
        return {
            f"test_{name}": float(np.nanmean(column))
            for name, column in zip(self.measures, self.rows.T, strict=True)
            if np.isfinite(column).any()
        }


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One line of a table."""

    name: str
    #: test volumes of which it is known, and those that are of the class
    known: int
    positive: int
    #: one against the rest
    accuracy: float
    #: NaN where all known ones are of the class, or none is
    auc: float


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How well one label of the masks is found; NaN where no test volume counts."""

    name: str
    #: mean over the test volumes that have the label, or in which it was said
    iou: float
    #: median over the same
    dice: float


def write_scores(run: Path, scores: Scores) -> None:
    """Keep the rows of a run for its tables."""
    arrays: dict[str, NDArray[np.float32] | NDArray[np.str_]] = {
        "measures": np.array(scores.measures),
        "rows": scores.rows,
        "patients": np.array(scores.patients),
    }
    said = {"targets": scores.targets, "answers": scores.answers}
    arrays |= {name: array for name, array in said.items() if array is not None}
    part = run / f"{runs.SCORES}.part"
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(run / runs.SCORES)


def read_scores(run: Path) -> Scores:
    """Return what `write_scores` kept.

    Raises
    ------
    StoreError
        When the run has none.
    """
    try:
        with np.load(run / runs.SCORES, allow_pickle=False) as kept:
            return Scores(
                measures=tuple(kept["measures"].tolist()),
                rows=kept["rows"],
                patients=tuple(kept["patients"].tolist()),
                targets=kept.get("targets"),
                answers=kept.get("answers"),
            )
    except (OSError, ValueError, KeyError) as exc:
        raise StoreError(
            f"{run}: no scores of test volumes ({type(exc).__name__}); finish the run first"
        ) from None


def by_class(targets: Floats, answered: Floats) -> dict[str, list[ClassScore]]:
    """Return accuracy and AUC of each class, one against the rest, as the slides do."""
    tables: dict[str, list[ClassScore]] = {}
    at = 0
    for place, (head, classes) in enumerate(CHOICES.items()):
        probabilities = answered[:, at : at + len(classes)]
        at += len(classes)
        is_known = np.isfinite(targets[:, place])
        truth, chosen = targets[is_known, place], probabilities[is_known].argmax(axis=1)
        tables[head] = [
            _score(name, truth == number, chosen == number, probabilities[is_known, number])
            for number, name in enumerate(classes)
        ]
    tables["regions"] = []
    for number, name in enumerate(REGIONS):
        column, said = targets[:, _FIRST_REGION + number], answered[:, at + number]
        is_known = np.isfinite(column)
        tables["regions"].append(
            _score(name, column[is_known] == 1, said[is_known] > 0.5, said[is_known])
        )
    return tables


def totals(targets: Floats, answered: Floats) -> dict[str, tuple[int, float]]:
    """Return how many volumes count and the share that is right: of regions, all that are known.

    The slides' coverage is right when all nine are: here all of those that the header knows.
    """
    found: dict[str, tuple[int, float]] = {}
    at = 0
    for place, (head, classes) in enumerate(CHOICES.items()):
        known = np.isfinite(targets[:, place])
        chosen = answered[:, at : at + len(classes)].argmax(axis=1)
        at += len(classes)
        found[head] = _share(known, chosen == targets[:, place])
    columns = targets[:, _FIRST_REGION : _FIRST_REGION + len(REGIONS)]
    is_known = np.isfinite(columns)
    said = answered[:, at : at + len(REGIONS)] > 0.5
    is_right = (said == (columns == 1)) | ~is_known
    found["regions"] = _share(np.asarray(is_known.any(axis=1)), np.asarray(is_right.all(axis=1)))
    return found


def contrast_by_sequence(targets: Floats, answered: Floats) -> list[ClassScore]:
    """Return accuracy and AUC of contrast agent within each sequence: on T2 it hardly shows."""
    heads = list(CHOICES)
    sequence, contrast = (targets[:, heads.index(name)] for name in ("sequence", "contrast"))
    end = sum(map(len, CHOICES.values()))
    of_contrast = answered[:, end - len(CHOICES["contrast"]) : end]  # (N, 2), the last choice
    scores = []
    for number, name in enumerate(CHOICES["sequence"]):
        places = np.flatnonzero((sequence == number) & np.isfinite(contrast))
        truth, said = contrast[places] == 1, of_contrast[places]
        scores.append(_score(name, truth, said.argmax(axis=1) == 1, said[:, 1]))
    return scores


def spacing_error(targets: Floats, answered: Floats) -> float:
    """Return the median factor by which the slice spacing is off: 1.1 is a tenth."""
    return float(np.exp(np.median(np.abs(answered[:, -1] - targets[:, -1]))))


def by_label(scores: Scores) -> list[LabelScore]:
    """Return IoU and Dice of each label: pooled, one that is never found hides the others."""
    found = []
    for measure, column in zip(scores.measures, scores.rows.T, strict=True):
        if measure.startswith(_DICE):
            dice = column[np.isfinite(column)]
            iou, median = ((dice / (2 - dice)).mean(), np.median(dice)) if len(dice) else (nan, nan)
            name = f"label {measure.removeprefix(_DICE)}"
            found.append(LabelScore(name=name, iou=float(iou), dice=float(median)))
    return found


def auc(truth: NDArray[np.bool_], said: Floats) -> float:
    """Return the area under the receiver operating curve by ranks, ties counting half."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    values, place = np.unique(said, return_inverse=True)
    counts = np.bincount(place, minlength=len(values))
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _score(
    name: str, truth: NDArray[np.bool_], chosen: NDArray[np.bool_], said: Floats
) -> ClassScore:
    return ClassScore(
        name=name,
        known=len(truth),
        positive=int(truth.sum()),
        accuracy=float((truth == chosen).mean()) if len(truth) else float("nan"),
        auc=auc(truth, said),
    )


def _share(known: NDArray[np.bool_], is_right: NDArray[np.bool_]) -> tuple[int, float]:
    return int(known.sum()), float(is_right[known].mean()) if known.any() else float("nan")

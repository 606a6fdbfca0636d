import numpy as np
import pytest

from training.volumes.scores import auc, by_class, contrast_by_sequence, spacing_error, totals
from training.volumes.targets import COLUMNS, HEADS

NAN = np.nan


def _answers(sequence: int, plane: int, contrast: int, regions: list[float]) -> list[float]:
    chosen = [
        np.eye(size)[at] for size, at in zip((5, 3, 2), (sequence, plane, contrast), strict=True)
    ]
    return [*np.concatenate(chosen), *regions, np.log(4.4)]


NONE = [0.1] * 9
LUNG = [0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
TARGETS = np.array(
    [
        [0, 0, 1, 0, 0, 0, 1, NAN, NAN, NAN, 0, 0, np.log(4)],
        [1, 1, NAN, 0, 0, 0, 1, 0, 0, 0, 0, 0, np.log(4)],
        [NAN, 2, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, np.log(4)],
    ],
    np.float32,
)
ANSWERS = np.array(
    [_answers(0, 0, 1, LUNG), _answers(0, 1, 0, NONE), _answers(3, 2, 1, LUNG)], np.float32
)


def test_only_what_is_known_counts() -> None:
    assert TARGETS.shape[1] == len(COLUMNS)
    assert ANSWERS.shape[1] == sum(HEADS.values())
    assert totals(TARGETS, ANSWERS) == {
        "sequence": (2, 0.5),
        "plane": (3, 1.0),
        "contrast": (2, 0.5),
        # of two volumes; the first is right in all that is known of it
        "regions": (2, 0.5),
    }


def test_classes_are_judged_against_the_rest() -> None:
    tables = by_class(TARGETS, ANSWERS)
    ct = tables["sequence"][0]
    assert (ct.name, ct.known, ct.positive, ct.accuracy) == ("CT", 2, 1, 0.5)
    assert np.isnan(tables["sequence"][4].auc)  # nobody is of it
    lung = next(one for one in tables["regions"] if one.name == "Lung")
    assert (lung.known, lung.positive, lung.accuracy) == (2, 2, 0.5)


def test_contrast_is_judged_within_each_sequence_too() -> None:
    targets, answers = np.repeat(TARGETS[:1], 3, axis=0), np.repeat(ANSWERS[:1], 3, axis=0)
    targets[1, 2] = 0  # a CT without contrast agent, of which the answer says the contrary
    targets[2, 0] = NAN  # of no known sequence
    ct, *others = contrast_by_sequence(targets, answers)
    assert (ct.name, ct.known, ct.positive, ct.accuracy, ct.auc) == ("CT", 2, 1, 0.5, 0.5)
    assert [one.known for one in others] == [0, 0, 0, 0]


def test_the_area_under_the_curve_counts_ties_half() -> None:
    truth = np.array([False, False, True, True])
    assert auc(truth, np.array([0.1, 0.4, 0.35, 0.8], np.float32)) == 0.75
    assert auc(truth, np.array([0.5, 0.5, 0.5, 0.5], np.float32)) == 0.5
    assert auc(truth, np.array([0.1, 0.2, 0.3, 0.4], np.float32)) == 1.0


def test_the_spacing_is_judged_by_factors() -> None:
    assert spacing_error(TARGETS, ANSWERS) == pytest.approx(1.1, abs=1e-3)

import numpy as np
import pytest

from training.folds.scores import scores


def test_scores_are_those_of_a_table_worked_out_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    said = np.array([0, 0, 1, 1, 2, 2])
    found = scores(truth, said, 4)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.recall_of == pytest.approx((2 / 3, 1 / 2, 1, 0))
    assert found.precision_of == pytest.approx((1, 1 / 2, 1 / 2, 0))
    assert found.f1_of == pytest.approx((4 / 5, 1 / 2, 2 / 3, 0))
    # the fourth class is neither there nor said
    assert found.f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)

import math

import numpy as np
import pytest
from scipy.stats import kstest

from dicom_node.errors import StoreError
from training.statistics import bootstrap, paired, wilcoxon

RNG_SEED = 5


def scores(count: int, *, mean: float = 0.0, seed: int = RNG_SEED) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


def test_the_spread_of_a_bootstrap_is_the_one_of_the_formula() -> None:
    values = scores(400)
    found = bootstrap(values, draws=4000, part=0.5, seed=1)
    # a mean of 200 values that are drawn with replacement
    expected = values.std() / math.sqrt(200)
    assert found.sd == pytest.approx(expected, rel=0.05)
    assert found.mean == pytest.approx(values.mean(), abs=4 * expected / math.sqrt(4000))
    assert len(found.draws) == 4000
    assert found.draws.std(ddof=1) == pytest.approx(found.sd)


def test_a_bootstrap_is_what_the_slow_loop_gives() -> None:
    values, rng = scores(9), np.random.default_rng(3)
    means = []
    for _ in range(20):
        drawn = [values[at] for at in rng.integers(0, 9, 4)]  # half of 9, rounded
        means.append(sum(drawn) / len(drawn))
    assert bootstrap(values, draws=20, seed=3).draws.tolist() == pytest.approx(means)


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    values = scores(30)
    assert bootstrap(values, seed=1).mean == bootstrap(values, seed=1).mean
    assert bootstrap(values, seed=1).mean != bootstrap(values, seed=2).mean


def test_frames_that_were_not_asked_do_not_count() -> None:
    values = np.array([1.0, np.nan, 1.0, np.nan])
    found = bootstrap(values, draws=50)
    assert (found.mean, found.sd) == (1.0, 0.0)
    with pytest.raises(StoreError, match="no test frame has a score"):
        bootstrap([np.nan, np.nan])


def test_drawing_patients_widens_what_frames_of_one_patient_share() -> None:
    patient = np.repeat(np.arange(20), 10)
    values = scores(20)[patient]  # all frames of a patient score alike
    by_frame = bootstrap(values, draws=1000, part=1.0)
    by_patient = bootstrap(values, draws=1000, part=1.0, clusters=patient)
    assert by_patient.sd == pytest.approx(by_frame.sd * math.sqrt(10), rel=0.15)


def test_a_known_difference_is_found() -> None:
    ours, theirs = scores(100, mean=0.5, seed=1), scores(100, seed=2)
    assert paired(ours, theirs) < 0.01
    assert paired(ours, theirs) == paired(theirs, ours)
    assert wilcoxon(ours, theirs) < 0.01


def test_the_paired_p_is_that_of_the_z_test_on_many_pairs() -> None:
    ours = scores(500, mean=0.08)
    z = ours.mean() / (ours.std() / math.sqrt(500))
    expected = math.erfc(abs(z) / math.sqrt(2))
    assert 0.005 < expected < 0.5
    found = paired(ours, np.zeros(500), draws=20_000)
    assert found == pytest.approx(expected, abs=0.02)


def test_without_a_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(0)
    found = [
        paired(rng.normal(size=60), rng.normal(size=60), draws=200, seed=n) for n in range(300)
    ]
    assert kstest(found, "uniform").pvalue > 0.001
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.10


def test_two_patients_prove_nothing_however_many_frames_they_have() -> None:
    ours, theirs = scores(100, mean=5.0, seed=1), scores(100, seed=2)
    assert paired(ours, theirs) < 0.01
    for patients, least in ((1, 1.0), (2, 0.5), (4, 0.125)):
        assert paired(ours, theirs, clusters=np.arange(100) % patients) == least


def test_equal_scores_are_no_difference() -> None:
    values = np.array([1.0, 0.0, np.nan, 1.0])
    assert paired(values, values) == 1.0
    assert wilcoxon(values, values) == 1.0


def test_a_pair_counts_where_both_scores_do() -> None:
    ours, theirs = scores(50, mean=1.0, seed=1), scores(50, seed=2)
    holes_ours, holes_theirs = ours.copy(), theirs.copy()
    holes_ours[:10] = np.nan
    holes_theirs[40:] = np.nan
    assert paired(holes_ours, holes_theirs) == paired(ours[10:40], theirs[10:40])
    with pytest.raises(StoreError, match="no frame has a score in both runs"):
        paired([1.0, np.nan], [np.nan, 1.0])


def test_scores_of_other_frames_are_refused() -> None:
    with pytest.raises(StoreError, match="3 scores against 2"):
        paired([1.0, 0.0, 1.0], [1.0, 0.0])

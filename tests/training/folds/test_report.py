"""What stands in a cell of the table."""

from training.folds.report import spread


def test_one_seed_gives_the_spread_of_its_folds() -> None:
    assert spread({(0, 5): 0.5, (1, 5): 0.7}) == "60.0 ± 14.1"
    assert spread({(0, 5): 0.5}) == "50.0"


def test_folds_and_seeds_spread_each_over_the_means_of_the_other() -> None:
    # folds: 0.55 and 0.75; seeds: 0.6 and 0.7
    found = {(0, 0): 0.5, (1, 0): 0.7, (0, 1): 0.6, (1, 1): 0.8}
    assert spread(found) == "65.0 ± 14.1 ± 7.1"


def test_a_seed_that_lacks_a_fold_is_no_seed_yet() -> None:
    assert spread({(0, 0): 0.5, (1, 0): 0.7, (0, 1): 0.6}) == "60.0 ± 10.6"

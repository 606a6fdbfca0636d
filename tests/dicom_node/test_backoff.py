import random

import pytest

from dicom_node.backoff import FIRST_RETRY_S, LONGEST_RETRY_S, Patience, retry_delay_s


def test_the_delay_doubles_up_to_its_limit_with_a_fifth_of_jitter() -> None:
    for failures in range(40):
        mean_s = min(FIRST_RETRY_S * 2**failures, LONGEST_RETRY_S)
        delays = [retry_delay_s(failures, random.Random(seed)) for seed in range(50)]
        assert all(0.8 * mean_s <= delay <= 1.2 * mean_s for delay in delays)
        assert max(delays) - min(delays) > 0.1 * mean_s


def test_patience_ends_with_an_answer_and_grows_with_failures() -> None:
    patience = Patience()
    assert patience.is_over()
    first, second = (patience.failed(random.Random(0)) for _ in range(2))
    assert second == pytest.approx(2 * first)
    assert not patience.is_over()
    patience.worked()
    assert patience.is_over()
    assert patience.failed(random.Random(0)) == first

"""How long to wait before trying again."""

import random
import threading
import time
from typing import Final

#: 30 s, doubled after each failure, at most 10 minutes.
FIRST_RETRY_S: Final = 30.0
LONGEST_RETRY_S: Final = 600.0
#: Spreads the retries of what failed at the same moment.
_JITTER: Final = (0.8, 1.2)


def retry_delay_s(failures: int, rng: random.Random) -> float:
    """Return how many seconds to wait after so many failures before this one.

    Parameters
    ----------
    failures : int
        0 after the first failure.
    rng : random.Random
        Source of the jitter of 20 %.
    """
    delay_s = min(FIRST_RETRY_S * 2.0 ** min(failures, 10), LONGEST_RETRY_S)
    return delay_s * rng.uniform(*_JITTER)


class Patience:
    """Leaves a peer alone that failed, longer after each failure; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._not_before_s = 0.0

    def is_over(self) -> bool:
        """Whether it may be asked."""
        with self._lock:
            return time.monotonic() >= self._not_before_s

    def failed(self, rng: random.Random) -> float:
        """Note a failure; return for how many seconds it is left alone."""
        with self._lock:
            delay_s = retry_delay_s(self._failures, rng)
            self._failures += 1
            self._not_before_s = time.monotonic() + delay_s
            return delay_s

    def worked(self) -> None:
        """Note an answer."""
        with self._lock:
            self._failures, self._not_before_s = 0, 0.0

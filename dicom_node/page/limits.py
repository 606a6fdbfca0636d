"""How often somebody may ask: buckets that fill up again with time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

#: So many askers are remembered; the longest silent one is forgotten.
_MOST_ASKERS: Final = 4096


class Allowance:
    """So many at once, and so many a second after that, for each asker.

    Parameters
    ----------
    at_once : float
    a_second : float
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, at_once: float, a_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.at_once, self.a_second = at_once, a_second
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, asker: str) -> float:
        """Take one; return 0, or after how many seconds there is one again."""
        with self._lock:
            now = self._clock()
            left, at = self._left.pop(asker, (self.at_once, now))
            left = min(self.at_once, left + (now - at) * self.a_second)
            wait_s = 0.0 if left >= 1 else (1 - left) / self.a_second
            self._left[asker] = (left - 1 if left >= 1 else left, now)
            if len(self._left) > _MOST_ASKERS:
                self._left.popitem(last=False)
            return wait_s

    def give_back(self, asker: str) -> None:
        """Take back the last `take`: it was no misuse."""
        with self._lock:
            left, at = self._left.get(asker, (self.at_once, self._clock()))
            self._left[asker] = (min(self.at_once, left + 1), at)

"""One bound for the messages that all peers of a receiver process leave half-sent in its memory.

The data sets of a C-STORE go to the disk as they come. Association requests and all other messages
have to be whole before they are understood. What a decent peer sends fits into what each connection
may hold by itself; whatever is longer has to fit, with all others, into the budget.
"""

import threading
from typing import Final

#: of a process: two of the longest messages at a time
BUDGET_BYTES: Final = 8 << 20
#: A connection holds so much beside the budget, so that nobody can keep it from ordinary messages.
FREE_BYTES: Final = 1 << 15


class Budget:
    """Bytes that the connections of a process may hold together.

    Parameters
    ----------
    limit_bytes : int
    """

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self._left_bytes = limit_bytes
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Take bytes, or give them back when negative; False when so many are not left."""
        with self._lock:
            if count > self._left_bytes:
                return False
            self._left_bytes -= count
            return True


class Share:
    """What one connection holds of a budget.

    Parameters
    ----------
    budget : Budget
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken_bytes = 0

    def hold(self, count: int) -> bool:
        """Hold `count` bytes in all; False, and nothing changes, when they are not left."""
        wanted = max(0, count - FREE_BYTES)
        if wanted != self._taken_bytes:
            if not self._budget.take(wanted - self._taken_bytes):
                return False
            self._taken_bytes = wanted
        return True

"""Whether the node is well: a table of looks, each with its cure."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

#: A flood of questions is no flood of looks.
FRESH_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """One thing that must be so."""

    name: str
    #: says what is wrong, "" when nothing is
    fault: Callable[[], str]
    #: the first step of whoever is woken by it
    cure: str
    #: a good answer holds for so long
    fresh_s: float = FRESH_S


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a look came to."""

    name: str
    healthy: bool
    #: "" when healthy
    fault: str
    cure: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """What all looks came to."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether every check is good."""
        return all(check.healthy for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``/healthz`` answers."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}


class Watch:
    """The health of a node, for several threads that ask.

    However often somebody asks, a look is taken no oftener than once in its `Look.fresh_s`.

    Parameters
    ----------
    looks : sequence of Look
    """

    def __init__(self, looks: Sequence[Look]) -> None:
        self._looks = tuple(looks)
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, Check]] = {}

    def health(self) -> Health:
        """Look at everything; a look that the operating system breaks off is a fault too."""
        with self._lock:
            return Health(checks=tuple(self._check(look) for look in self._looks))

    def _check(self, look: Look) -> Check:
        now = time.monotonic()
        at, check = self._seen.get(look.name, (-math.inf, None))
        fresh_s = look.fresh_s if check is not None and check.healthy else FRESH_S
        if check is None or now - at > fresh_s:
            check = _check(look)
            self._seen[look.name] = (now, check)
        return check


def _check(look: Look) -> Check:
    try:
        fault = look.fault()
    except OSError as exc:
        fault = f"could not be looked at: {exc.strerror or type(exc).__name__}"
    return Check(name=look.name, healthy=not fault, fault=fault, cure=look.cure if fault else "")

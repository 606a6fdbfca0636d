"""Whether the node is well: a table of looks, each with its cure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Look:
    """One thing that must be so."""

    name: str
    #: says what is wrong, "" when nothing is
    fault: Callable[[], str]
    #: the first step of whoever is woken by it
    cure: str


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


def examine(looks: Sequence[Look]) -> Health:
    """Look at everything; a look that the operating system breaks off is a fault too."""
    return Health(checks=tuple(_check(look) for look in looks))


def _check(look: Look) -> Check:
    try:
        fault = look.fault()
    except OSError as exc:
        fault = f"could not be looked at: {exc.strerror or type(exc).__name__}"
    return Check(name=look.name, healthy=not fault, fault=fault, cure=look.cure if fault else "")

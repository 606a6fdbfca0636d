"""The adversarial losses of both versions of the paper, as functions of the scores of D.

A score is D(x, y), a float32 (N,) without a sigmoid: large where D takes a patch for a real one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor], Tensor]


def hinge_real(score: Tensor) -> Tensor:
    """Return max(0, 1 - D) for real patches (second version, eq. 3)."""
    return functional.relu(1 - score)


def hinge_fake(score: Tensor) -> Tensor:
    """Return max(0, 1 + D) for filled holes (second version, eq. 3)."""
    return functional.relu(1 + score)


def hinge_fooled(score: Tensor) -> Tensor:
    """Return -D, what F makes small (second version, eq. 2)."""
    return -score


def log_real(score: Tensor) -> Tensor:
    """Return -log sigmoid(D) for real patches (first version, eq. 2)."""
    return functional.softplus(-score)


def log_fake(score: Tensor) -> Tensor:
    """Return -log(1 - sigmoid(D)) for filled holes (first version, eq. 2)."""
    return functional.softplus(score)


def log_fooled(score: Tensor) -> Tensor:
    """Return log(1 - sigmoid(D)), what F makes small (first version, eq. 1: minimax)."""
    return -functional.softplus(score)


#: Name of a loss to its three sides: D on real, D on fake, F; each maps (N,) to (N,).
LOSSES: Final[Mapping[str, tuple[Loss, Loss, Loss]]] = MappingProxyType(
    {
        "hinge": (hinge_real, hinge_fake, hinge_fooled),
        "log": (log_real, log_fake, log_fooled),
    }
)

"""A table of lesions that takes seconds."""

from typing import Any

from tests.support import folds
from tests.support.lesions import LABELS
from training.transfer.matrix import Transfer


def values(**changes: object) -> dict[str, Any]:
    """Return its settings as a file has them."""
    given = folds.values() | {
        "seeds": [0, 1],
        "detect": {
            "labels": LABELS,
            "size": {"height": 64, "width": 64},
            "epochs": 1,
            "batch_size": 4,
            "learning_rate": 0.005,
            "heads": "slim",
        },
    }
    del given["finetune"]
    return given | changes


def table(**changes: object) -> Transfer:
    """Return the same as settings."""
    return Transfer.model_validate(values(**changes))

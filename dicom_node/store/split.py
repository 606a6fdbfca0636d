"""Which patients train, which validate, which test."""

import hashlib
from typing import Final

#: Split and the share of patients up to which it reaches.
SPLITS: Final = {"train": 0.70, "validation": 0.85, "test": 1.0}


def split_of(patient: str) -> str:
    """Return the split of a patient's pseudonym: always the same, whoever else is in the store.

    A patient is never in two splits, and a store that grows moves nobody.
    """
    draw = int.from_bytes(hashlib.sha256(f"split {patient}".encode()).digest()[:8]) / 2**64
    return next(split for split, reach in SPLITS.items() if draw < reach)

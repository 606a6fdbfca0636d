"""Small stores and packs for tests, frame by frame."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.store import WeakLabelStore, split_of
from tests.support.frames import new_frame
from tests.support.labels import say

#: (H, W) of the frames in these stores.
HEIGHT, WIDTH = 40, 60


@dataclass(frozen=True, kw_only=True)
class Still:
    """One frame: of whom, what is known of it, and what a reader said."""

    patient: str
    #: of `tests.support.frames.new_frame`
    fields: dict[str, Any] = field(default_factory=dict)
    #: of `tests.support.labels.say`
    label: dict[str, Any] = field(default_factory=dict)


def pseudonym(text: str) -> str:
    """Return a pseudonym for a test."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def patients(split: str, count: int) -> list[str]:
    """Return pseudonyms of patients who fall into a split."""
    found = (token for n in range(10_000) if split_of(token := pseudonym(str(n))) == split)
    return [next(found) for _ in range(count)]


def mask(seed: int = 0, labels: int = 1) -> np.ndarray:
    """Return a label map with values from 0 to `labels`."""
    return np.random.default_rng(seed).integers(0, labels + 1, (HEIGHT, WIDTH)).astype(np.uint8)


def filled(folder: Path, stills: Iterable[Still]) -> Path:
    """Put frames into a store and return its folder; each is an instance of its own."""
    with WeakLabelStore(folder) as store:
        for number, still in enumerate(stills):
            instance = pseudonym(f"instance {number}")
            known = {"study": pseudonym(f"study of {still.patient}"), "instance": instance}
            store.add_frame(new_frame(seed=number, patient=still.patient, **(known | still.fields)))
            if still.label:
                say(store, instance, 1, **still.label)
    return folder

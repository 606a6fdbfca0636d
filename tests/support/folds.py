"""An index of tiny clips with classes and folds, and a table over them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicom_node.store.label_sets import class_sets
from training.folds.matrix import Folds

LABELS = "lung"
FOLDS, CLIPS, FRAMES = 3, 2, 3


def lines(folds: int = FOLDS, clips: int = CLIPS, frames: int = FRAMES) -> list[dict[str, str]]:
    """Return the lines of an index: so many clips of each class in each fold."""
    return [
        {
            "path": f"{name}-{fold}-{clip}_frame{9 + frame}.png",
            "dataset": "test",
            "patient": f"{name}-{fold}-{clip}",
            "label": f"{name};fold={fold}",
        }
        for name in class_sets()[LABELS].names
        for fold in range(folds)
        for clip in range(clips)
        for frame in range(frames)
    ]


def written(folder: Path, rows: list[dict[str, str]]) -> Path:
    """Write an index and its pictures: noise, brighter from class to class."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = list(class_sets()[LABELS].names)
    for row in rows:
        place = [name in row["label"] for name in names]
        light = 60 * place.index(True) if any(place) else 0
        pixels = rng.integers(light, light + 60, (20, 30)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / row["path"])
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder / "index.csv"


def values(**changes: object) -> dict[str, Any]:
    """Return a table that takes seconds."""
    return {
        "name": "test",
        "title": "Test",
        "caption": "Nothing of this is a result.",
        "labels": LABELS,
        "size": {"height": 64, "width": 64},
        "encoder": "small",
        "encoder_width": 2,
        "strategies": ["baseline", "uscl", "imagenet"],
        "options": {"uscl": {"labels": LABELS, "features": 4}},
        "pretrain": {"epochs": 1, "batch_size": 4},
        "finetune": {
            "last": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
            "all": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
        },
        "validation": 0.25,
    } | changes


def table(**changes: object) -> Folds:
    """Return the same as settings."""
    return Folds.model_validate(values(**changes))

"""Tiny fine-tunings for tests: settings, fabric, and packs whose labels are bent."""

from dataclasses import replace

import numpy as np
from lightning_fabric import Fabric

from dicom_node.records import Task
from training.config import FinetuneSettings, Size
from training.pack import Pack

SIZE = Size(height=64, width=64)
#: Label set of each task on phantoms; classes are made by `with_classes`.
LABELS = {Task.SEGMENTATION: "liver-kidney", Task.QUALITY: None, Task.CLASSIFICATION: "breast"}
CLASSES = ("benign", "malignant", "normal")


def fabric() -> Fabric:
    """Return one process on the CPU."""
    return Fabric(accelerator="cpu", devices=1)


def settings(task: Task = Task.QUALITY, **changes: object) -> FinetuneSettings:
    """Return settings of one epoch of the smallest network."""
    given = {
        "task": task,
        "labels": LABELS[task],
        "encoder": "small",
        "encoder_width": 4,
        "size": SIZE,
        "epochs": 1,
        "learning_rate": 1e-3,
    }
    return FinetuneSettings.model_validate(given | changes)


def with_classes(pack: Pack) -> Pack:
    """Return a pack of phantoms whose class follows their quality."""
    quality = pack.rows.quality
    rows = replace(
        pack.rows,
        class_set=np.where(quality >= 0, 0, -1).astype(np.int16),
        class_index=np.where(quality >= 0, quality % 3, -1).astype(np.int16),
    )
    return replace(pack, rows=rows, class_sets={"breast": CLASSES})


def with_columns(pack: Pack, **columns: object) -> Pack:
    """Return a pack with other columns."""
    return replace(pack, rows=replace(pack.rows, **columns))

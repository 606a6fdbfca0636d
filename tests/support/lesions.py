"""Tiny detectors for tests: settings, and a pack of noise with blocks that are called lesions."""

from pathlib import Path

import numpy as np

from dicom_node.records import Task
from tests.support.finetuning import SIZE, settings
from tests.support.packs import HEIGHT, WIDTH, Still, filled, patients
from training import pack as packs
from training.config import DetectSettings
from training.pack import Pack

LABELS = "breast-lesion"


def detecting(**changes: object) -> DetectSettings:
    """Return settings of one epoch of the smallest network."""
    given = settings(Task.SEGMENTATION, labels=LABELS, encoder_width=2, batch_size=4)
    known = given.model_dump(exclude_unset=True) | {"learning_rate": 0.005}
    return DetectSettings.model_validate(known | changes)


def lesions_pack(folder: Path) -> Pack:
    """Return noise with a block that is called a lesion in every other frame."""
    block = np.zeros((HEIGHT, WIDTH), np.uint8)
    stills = []
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        for number, patient in enumerate(patients(split, count)):
            block[10:30, 20:45] = number % 2
            label = {"mask": block.copy(), "labels": LABELS}
            stills.append(Still(patient=patient, label=label))
    return packs.build(filled(folder / "store", stills), folder / "pack", SIZE)

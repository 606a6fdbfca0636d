"""Stills of one series, and the SEGs of what was found in them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from dicom_node.forms import Forms, SegmentationForm
from dicom_node.records import Analysis, ResultKind
from dicom_node.results import write_results
from dicom_node.results.stills import Part
from tests.support.analyses import (
    INSTALLATION,
    STILL,
    altered,
    analysis_of,
    pydicom_file,
    random_labels,
)

Change = Callable[[FileDataset], None]


def still(folder: Path, number: int, change: Change = lambda _: None) -> Path:
    """Write a still of a series, without pixels."""

    def numbered(dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"still {number}"])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number
        change(dataset)

    return altered(pydicom_file(STILL), folder / f"still-{number}.dcm", numbered)


def analyses_of(paths: Sequence[Path]) -> list[Analysis]:
    """Return an analysis of each still; what was found differs."""
    found = []
    for place, path in enumerate(paths):
        analysis = analysis_of(path)
        [said] = analysis.segmentations
        labels = random_labels(analysis.facts, 1, seed=place)
        found.append(replace(analysis, segmentations=(replace(said, label_map=labels),)))
    return found


def parts_of(
    analyses: Sequence[Analysis], folder: Path, form: SegmentationForm = SegmentationForm.HYBRID
) -> list[Part]:
    """Write the SEG of each still."""
    forms = Forms(segmentations=(form,))
    return [
        Part(
            instance=analysis.instance,
            sop_instance_uid=result.sop_instance_uid,
            path=result.path,
        )
        for analysis in analyses
        for result in write_results(analysis, folder, installation=INSTALLATION, forms=forms)
        if result.kind is ResultKind.SEG
    ]


def label_map_of(analysis: Analysis) -> np.ndarray:
    """Return what was found in a still, (R, C)."""
    return analysis.segmentations[0].label_map[0]

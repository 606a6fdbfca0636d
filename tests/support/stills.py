"""Stills of one series, and the SEGs of what was found in them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.seg import Segmentation, segread
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_node.forms import Forms, SegmentationForm
from dicom_node.phantom.study import US_IMAGE, US_MULTIFRAME_IMAGE
from dicom_node.records import FIRST_EDITION, Analysis, Edition, Result, ResultKind
from dicom_node.results import Part, write_results, write_stills
from dicom_node.results.masks import mask_of, read_mask
from dicom_node.results.source import odd_values_allowed, read_source
from dicom_node.results.write import segmentation_plan, write_plan
from tests.support.analyses import (
    INSTALLATION,
    STILL,
    altered,
    analysis_of,
    pydicom_file,
    random_labels,
)

SERIES = "2.25.90"
Change = Callable[[FileDataset], None]


def still(folder: Path, number: int, change: Change = lambda _: None) -> Path:
    """Write a small still of a series, without pixels."""

    def numbered(dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"still {number}"])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number
        dataset.Rows, dataset.Columns = 64, 96
        change(dataset)

    return altered(pydicom_file(STILL), folder / f"still-{number}.dcm", numbered)


def picture(folder: Path, number: int, *, rows: int = 64, side: int = 16, frames: int = 1) -> Path:
    """Write a small image of that series with pixels: a bright square on black."""
    header = dcmread(still(folder, number), stop_before_pixels=True)
    for keyword in [element.keyword for element in header.group_dataset(0x0028)]:
        del header[keyword]
    header.pop("SequenceOfUltrasoundRegions", None)
    grey = np.zeros((frames, rows, 96), np.uint8)
    grey[:, 8 : 8 + side, 8 * number : 8 * number + side] = 255
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = US_MULTIFRAME_IMAGE if frames > 1 else US_IMAGE
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = rows, 96
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    if frames > 1:
        header.NumberOfFrames, header.FrameTime = frames, 400
        header.FrameIncrementPointer = Tag("FrameTime")
    header.add_new("PixelData", "OB", grey.tobytes())
    path = folder / f"picture-{number}.dcm"
    header.save_as(path)
    return path


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
        Part(instance=analysis.instance, result=result)
        for analysis in analyses
        for result in write_results(analysis, folder, installation=INSTALLATION, forms=forms)
        if result.kind is ResultKind.SEG
    ]


def write_each(analysis: Analysis, folder: Path, **arguments: Any) -> tuple[Result, ...]:
    """Write the results of an image; of a still its SEG, too, as if it could not be merged."""
    results = write_results(analysis, folder, installation=INSTALLATION, **arguments)
    # what a test says of the pixels, where `write_still` would read the file
    source = read_source(analysis.instance, analysis.facts) if results else None
    for result in results:
        if result.merging is None or source is None:
            continue
        edition = Edition(version=result.version)
        plan = segmentation_plan(
            source,
            read_mask(mask_of(result.path)),
            INSTALLATION,
            edition=edition,
            series_instance_uid=result.series_instance_uid,
            form=SegmentationForm(result.form),
        )
        with odd_values_allowed():
            write_plan(plan, source, folder, edition)
    return results


def merged(
    parts: Sequence[Part],
    folder: Path,
    form: SegmentationForm = SegmentationForm.HYBRID,
    edition: Edition = FIRST_EDITION,
) -> Result:
    """Write one SEG of all parts."""
    return write_stills(
        parts,
        folder,
        installation=INSTALLATION,
        edition=edition,
        series_instance_uid=SERIES,
        form=form,
    )


def found_in(analysis: Analysis) -> NDArray[np.uint8]:
    """Return what was found in a still, (R, C)."""
    labels: NDArray[np.uint8] = analysis.segmentations[0].label_map[0]
    return labels


def read_of(seg: Segmentation | Path, sop_instance_uid: str) -> NDArray[np.uint8]:
    """Return what a reader finds in a SEG of an image, (R, C)."""
    opened = segread(seg) if isinstance(seg, Path) else seg
    [labels] = opened.get_pixels_by_source_instance(
        [sop_instance_uid], combine_segments=True, ignore_spatial_locations=True
    )
    return np.asarray(labels, np.uint8)

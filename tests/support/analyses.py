"""Analyses of real headers with random label maps and scores, for the tests of results."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset

from dicom_node import codes
from dicom_node.pixels.facts import read_facts
from dicom_node.records import (
    Algorithm,
    Analysis,
    CodedConcept,
    FailedAnalysis,
    FrameScore,
    ImageFacts,
    Instance,
    QualityScores,
    Segment,
    Segmentation,
    Task,
)
from dicom_node.results import Installation

#: Ultrasound that ships in pydicom's wheel; the last is a cine of 30 frames.
PYDICOM_FILES = (
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm",
    "examples_ybr_color.dcm",
)
CINE = "examples_ybr_color.dcm"
STILL = "examples_palette.dcm"
INSTALLATION = Installation(
    uid="2.25.313150183711216372185404441205921734", serial="0FAB", software_version="0.1"
)
SEGMENTS = (
    Segment(value=1, category=codes.ANATOMICAL_STRUCTURE, type=codes.LIVER),
    Segment(value=2, category=codes.ANATOMICAL_STRUCTURE, type=codes.KIDNEY),
)


def algorithm(name: str) -> Algorithm:
    """Return a model of that name, its digest made of it."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Algorithm(name=name, version="1.0.0", manufacturer="Test Works", digest=digest)


def pydicom_file(name: str) -> Path:
    """Return the path of a file of pydicom's wheel."""
    found = get_testdata_file(name, download=False)
    assert found is not None, f"pydicom no longer ships {name}"
    return Path(str(found))


def instance_of(path: Path) -> Instance:
    """Return what the index would know of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real headers
        header = dcmread(path, stop_before_pixels=True)
        return Instance(
            sop_instance_uid=str(header.get("SOPInstanceUID", "")),
            sop_class_uid=str(header.get("SOPClassUID", "")),
            series_instance_uid=str(header.get("SeriesInstanceUID", "")),
            study_instance_uid=str(header.get("StudyInstanceUID", "")),
            transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
            file_id="0" * 24,
            path=path,
            sha256="",
            size_bytes=path.stat().st_size,
            received_at=datetime.now(UTC),
        )


def facts_of(path: Path) -> ImageFacts:
    """Return the facts of a file's pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real headers
        return read_facts(path)


def random_labels(facts: ImageFacts, planes: int, seed: int = 7) -> NDArray[np.uint8]:
    """Return label maps (N, R, C) of liver and kidney in coarse random blocks."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-facts.rows // 8), -(-facts.columns // 8)
    blocks = rng.integers(0, 3, (planes, rows, columns), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)[:, : facts.rows, : facts.columns]


def segmentation_of(facts: ImageFacts, frames: tuple[int, ...]) -> Segmentation:
    """Return a segmentation of those frames that found something."""
    return Segmentation(
        algorithm=algorithm("liver-kidney"),
        segments=SEGMENTS,
        frames=frames,
        label_map=random_labels(facts, len(frames)),
    )


def emptied(segmentation: Segmentation) -> Segmentation:
    """Return the segmentation with nothing found."""
    return replace(segmentation, label_map=np.zeros_like(segmentation.label_map))


def quality_of(frames: tuple[int, ...]) -> QualityScores:
    """Return a score for each of those frames."""
    return QualityScores(
        algorithm=algorithm("view-quality"),
        scores=tuple(
            FrameScore(frame=frame, score=frame % 5, probability=1 - frame / 997)
            for frame in frames
        ),
    )


def without_scores(quality: QualityScores, *frames: int) -> QualityScores:
    """Return the scores, those of some frames missing."""
    scores = tuple(
        replace(score, score=None, probability=None) if score.frame in frames else score
        for score in quality.scores
    )
    return replace(quality, scores=scores)


def failure(name: str = "broken-model") -> FailedAnalysis:
    """Return a model that could not speak."""
    return FailedAnalysis(
        algorithm=algorithm(name), task=Task.SEGMENTATION, reason="the pixels cannot be decoded"
    )


def analysis_of(path: Path, every_nth: int = 1) -> Analysis:
    """Return an analysis with a segmentation and scores of every n-th frame."""
    facts = facts_of(path)
    frames = tuple(range(1, facts.number_of_frames + 1, every_nth))
    return Analysis(
        instance=instance_of(path),
        facts=facts,
        segmentations=(segmentation_of(facts, frames),),
        qualities=(quality_of(frames),),
    )


def altered(path: Path, target: Path, change: Callable[[FileDataset], None]) -> Path:
    """Copy a file without its pixels, with a changed header, and return the copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the changes are illegal on purpose
        dataset = dcmread(path, stop_before_pixels=True)
        change(dataset)
        dataset.save_as(target)
    return target


def items(parent: Dataset) -> Iterator[Dataset]:
    """Walk a content tree from the top to the leaves."""
    for item in parent.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(parent: Dataset, name: CodedConcept) -> list[Dataset]:
    """Return the content items of that concept name."""
    return [i for i in items(parent) if i.ConceptNameCodeSequence[0].CodeValue == name.value]


def discs(facts: ImageFacts, planes: int) -> NDArray[np.uint8]:
    """Return label maps (N, R, C) of a liver with a kidney in it, farther right in each plane."""
    rows, columns = np.mgrid[: facts.rows, : facts.columns]
    maps = np.zeros((planes, facts.rows, facts.columns), np.uint8)
    for index, labels in enumerate(maps):
        x, y = facts.columns * (0.35 + 0.2 * index / planes), facts.rows * 0.45
        across, down = (columns - x) / facts.columns, (rows - y) / facts.rows
        labels[across**2 + down**2 < 0.2**2] = 1
        labels[(across - 0.2) ** 2 + down**2 < 0.08**2] = 2
    return maps


def drawn_analysis_of(path: Path, every_nth: int = 1) -> Analysis:
    """Return an analysis as `analysis_of`, of shapes that a reader could look at, and a failure."""
    analysis = analysis_of(path, every_nth)
    (said,) = analysis.segmentations
    shapes = replace(said, label_map=discs(analysis.facts, len(said.frames)))
    return replace(analysis, segmentations=(shapes,), failures=(failure(),))

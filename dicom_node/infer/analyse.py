"""One instance through its models: stills and cines, predictions in source pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.bundle import Manifest
from dicom_node.errors import InferenceError, PixelError, UnreadableError
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.geometry import to_network, to_source
from dicom_node.pixels.sandbox import PixelSandbox
from dicom_node.records import (
    Analysis,
    FailedAnalysis,
    FrameScore,
    ImageFacts,
    Instance,
    QualityScores,
    Segmentation,
    Task,
)

#: Label maps of one instance take at most so much memory; a longer cine is thinned out evenly.
LABEL_MAP_BUDGET_BYTES = 192 * 2**20
#: No cine gets more answers than this; a longer one is thinned out evenly.
MOST_FRAMES = 2000
#: Frames that a model gets at once: more are no faster on a CPU and take memory.
BATCH: Final = 4


class Answering(Protocol):
    """A model: a `dicom_node.infer.Model`, or a `dicom_node.bundle.Bundle` in this process."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""

    def answer(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run frames through it, as `Bundle.answer` does."""


def analyse(instance: Instance, bundles: Sequence[Answering], *, sandbox: PixelSandbox) -> Analysis:
    """Run every bundle over an instance.

    Parameters
    ----------
    instance : Instance
        An ultrasound image, still or cine.
    bundles : sequence of Answering
        Models that fit the instance.
    sandbox : PixelSandbox
        Decodes the frames.

    Returns
    -------
    Analysis
        What cannot be decoded, or what a model chokes on, is in ``failures``, never an exception.
    """
    try:
        facts = read_facts(instance.path)
        runs = [_Run(bundle, frames_to_analyse(bundle, facts, len(bundles))) for bundle in bundles]
        wanted = sorted({number for run in runs for number in run.frames})
        for number, frame in sandbox.frames(instance.path, wanted):
            for run in runs:
                run.see(number, frame, facts)
        for run in runs:
            run.flush(facts)
    except (PixelError, UnreadableError) as exc:
        return Analysis(
            instance=instance,
            facts=_no_facts(instance),
            failures=tuple(_failure(bundle, str(exc)) for bundle in bundles),
        )
    return Analysis(
        instance=instance,
        facts=facts,
        segmentations=tuple(s for run in runs if (s := run.segmentation()) is not None),
        qualities=tuple(q for run in runs if (q := run.quality()) is not None),
        failures=tuple(_failure(run.bundle, run.fault) for run in runs if run.fault),
    )


@dataclass
class _Run:
    """One bundle on its way through one instance."""

    bundle: Answering
    frames: range
    fault: str = ""
    waiting: list[tuple[int, NDArray[np.uint8]]] = field(default_factory=list)
    label_maps: list[NDArray[np.uint8]] = field(default_factory=list)
    scores: list[FrameScore] = field(default_factory=list)

    def see(self, number: int, frame: NDArray[np.uint8], facts: ImageFacts) -> None:
        """Take in one grey frame (R, C) when it is one of ours."""
        if number not in self.frames or self.fault:
            return
        size = self.bundle.manifest.input
        image = to_network(frame, facts.region, height=size.height, width=size.width)  # (H, W)
        self.waiting.append((number, image))
        if len(self.waiting) == BATCH:
            self.flush(facts)

    def flush(self, facts: ImageFacts) -> None:
        """Ask the model about the frames that wait."""
        if not self.waiting or self.fault:
            return
        images = np.stack([image for _, image in self.waiting])[:, None]  # (N, 1, H, W)
        try:
            answers = self.bundle.answer(images)
        except InferenceError as exc:
            self.fault = str(exc)
            return
        for (number, _), answer in zip(self.waiting, answers, strict=True):
            self._take(number, answer, facts)
        self.waiting.clear()

    def _take(self, number: int, answer: NDArray[np.float32], facts: ImageFacts) -> None:
        if self.bundle.manifest.task is Task.QUALITY:
            self.scores.append(ordinal_score(number, answer))
        else:
            labels = to_source(answer, facts.region, rows=facts.rows, columns=facts.columns)
            self.label_maps.append(_without_specks(labels, self.bundle, facts))

    def segmentation(self) -> Segmentation | None:
        """Return the label maps, None when the model has another task or failed."""
        if not self.label_maps or self.fault:
            return None
        return Segmentation(
            algorithm=self.bundle.manifest.algorithm(),
            segments=self.bundle.manifest.segments(),
            frames=tuple(self.frames),
            label_map=np.stack(self.label_maps),  # (N, R, C)
        )

    def quality(self) -> QualityScores | None:
        """Return the scores, None when the model has another task or failed."""
        if not self.scores or self.fault:
            return None
        manifest = self.bundle.manifest
        return QualityScores(
            algorithm=manifest.algorithm(),
            scores=tuple(self.scores),
            finding_sites=tuple(site.concept() for site in manifest.finding_sites),
        )


def ordinal_score(frame: int, probabilities: NDArray[np.float32]) -> FrameScore:
    """Read a score from ordinal probabilities.

    Parameters
    ----------
    frame : int
        Frame number.
    probabilities : ndarray of float32, shape (4,)
        P(score > 0) ... P(score > 3); made monotone first, as cumulative probabilities are.

    Returns
    -------
    FrameScore
        The score is the number of leading probabilities above one half; none when one of them is
        no number.
    """
    if not np.isfinite(probabilities).all():
        return FrameScore(frame=frame, score=None, probability=None)
    above = np.minimum.accumulate(np.clip(probabilities.astype(np.float64), 0.0, 1.0))
    score = int((above > 0.5).sum())
    at_least = np.concatenate([[1.0], above, [0.0]])
    return FrameScore(
        frame=frame, score=score, probability=float(at_least[score] - at_least[score + 1])
    )


def frames_to_analyse(bundle: Answering, facts: ImageFacts, models: int) -> range:
    """Return every n-th frame number, thinned further where answers would be too many.

    Parameters
    ----------
    bundle : Answering
        Says which n.
    facts : ImageFacts
        Of the image.
    models : int
        How many models share the budget of label maps.
    """
    step = max(bundle.manifest.every_nth_frame, math.ceil(facts.number_of_frames / MOST_FRAMES))
    if bundle.manifest.task is Task.SEGMENTATION:
        size_bytes = facts.number_of_frames * facts.rows * facts.columns * models
        step = max(step, math.ceil(size_bytes / LABEL_MAP_BUDGET_BYTES))
    return range(1, facts.number_of_frames + 1, step)


def _without_specks(
    labels: NDArray[np.uint8], bundle: Answering, facts: ImageFacts
) -> NDArray[np.uint8]:
    """Clear segments of a frame that are smaller than the manifest's least area."""
    scanned = facts.region.width * facts.region.height if facts.region else labels.size
    for label in bundle.manifest.labels:
        inside = labels == label.value
        if 0 < int(inside.sum()) < bundle.manifest.min_area_fraction * scanned:
            labels[inside] = 0
    return labels


def _failure(bundle: Answering, reason: str) -> FailedAnalysis:
    return FailedAnalysis(
        algorithm=bundle.manifest.algorithm(), task=bundle.manifest.task, reason=reason
    )


def _no_facts(instance: Instance) -> ImageFacts:
    return ImageFacts(
        rows=0,
        columns=0,
        number_of_frames=1,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        region=None,
        spacing_mm=None,
    )

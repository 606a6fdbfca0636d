"""The arms of the benchmark of serving: one study with and without the node around the model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import torch

from dicom_node.bundle import INPUT_NAME, Bundle, Code, Input, Label, Manifest, Parity, Provenance
from dicom_node.codes import ANATOMICAL_STRUCTURE, KIDNEY, LIVER
from dicom_node.config import Config, Destination, InferSettings, NodeSettings, StudySettings
from dicom_node.infer import analyse
from dicom_node.merging import Merger
from dicom_node.node.worker import open_parts
from dicom_node.outbox import DeliveryState
from dicom_node.phantom.study import StudySpec, ViewSpec, write_study
from dicom_node.pipeline import Parts, deliver_errand
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.geometry import to_network
from dicom_node.records import Analysis, CodedConcept, Instance, Task
from dicom_node.register import register_waiting
from dicom_node.results import Overlays, write_results_or_failure
from models.encoders import build
from models.unet import UNet
from tests.benchmarks.receivers import pacs_elsewhere
from training.export.bundle_file import write_bundle


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is served: which network, on cines of how many frames."""

    encoder: str
    height: int
    width: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds that one study took."""

    #: of onnxruntime alone, on the same frames
    bare_s: float
    analyse_s: float
    write_s: float
    send_s: float

    @property
    def overhead(self) -> float:
        """How much longer it took with the node around, as a share of the bare call."""
        return (self.analyse_s + self.write_s + self.send_s - self.bare_s) / self.bare_s


def random_bundle(path: Path, work: Work) -> None:
    """Write a U-Net with random weights as training would."""
    torch.manual_seed(0)
    network = UNet(build(work.encoder), 3).eval()
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 256, (2, 1, work.height, work.width), dtype=np.uint8)
    write_bundle(path, network, sample, lambda parity: _manifest(work, parity))


@contextmanager
def serving(folder: Path, threads: int | None) -> Iterator[Parts]:
    """Open the stages of a node, with a PACS on loopback, in a process of its own."""
    with pacs_elsewhere(folder / "pacs") as peer:
        destination = Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=peer.port, timeout_s=60.0
        )
        config = Config(
            node=NodeSettings(data=folder / "data", min_free_gib=0),
            study=StudySettings(quiet_s=1),
            infer=InferSettings(threads=threads),
            bundles=folder / "bundles",
            destinations=(destination,),
        )
        with open_parts(config) as parts:
            yield parts


def one_study(
    parts: Parts, folder: Path, seed: int, views: Sequence[int], *, bare_first: bool
) -> Spent:
    """Serve the images of a study, stage by stage as the pipeline does; run the model alone, too.

    `views` holds the number of frames of each image. The model alone runs on an image right before
    or after the node does: a machine that is shared changes its speed from one minute to the next.
    """
    images = _received(parts, folder, seed, views)
    bare_s = analyse_s = write_s = 0.0
    for number, image in enumerate(images):
        is_bare_first = bare_first is (number % 2 == 0)
        if is_bare_first:
            bare_s += run_bare(parts, image)
        began = time.perf_counter()
        analysis = analyse(image, parts.models.current(), sandbox=parts.sandbox)
        analysed = time.perf_counter()
        _write(parts, image, analysis)
        analyse_s += analysed - began
        write_s += time.perf_counter() - analysed
        if not is_bare_first:
            bare_s += run_bare(parts, image)
    began = time.perf_counter()
    merger = Merger(
        outbox=parts.outbox,
        results=parts.results,
        installation=parts.installation,
        destinations=frozenset(["pacs"]),
    )
    merger.merge(images, 1)
    merged = time.perf_counter()
    study = images[0].study_instance_uid
    deliver_errand(parts, study, "pacs", "0")
    sent = time.perf_counter()
    states = {row.state for row in parts.outbox.rows(study=study)}
    assert states == {DeliveryState.DELIVERED}, states
    return Spent(
        bare_s=bare_s,
        analyse_s=analyse_s,
        write_s=write_s + merged - began,
        send_s=sent - merged,
    )


def _write(parts: Parts, image: Instance, analysis: Analysis) -> None:
    uid = image.sop_instance_uid
    written, rejected = write_results_or_failure(
        analysis,
        parts.results,
        installation=parts.installation,
        edition=parts.outbox.next_edition(uid, study_revision=1),
        overlays=Overlays(kinds=frozenset(), sandbox=parts.sandbox),
    )
    assert not rejected, rejected
    now = datetime.now(UTC)
    parts.outbox.trail.note(analysis, rejected=rejected, now=now)
    owed = [(result, "pacs") for result in written]
    parts.outbox.add(written, owed, analysed=uid, models="bench", now=now)


def run_bare(parts: Parts, image: Instance) -> float:
    """Run the model on the frames of an image, one at a time; return the seconds of that alone."""
    [model] = parts.models.current()
    bundle = _bundle(model.path, parts.config.infer.threads)
    size, facts = bundle.manifest.input, read_facts(image.path)
    inputs = [
        to_network(frame, facts.region, height=size.height, width=size.width)
        for _, frame in parts.sandbox.frames(image.path, range(1, facts.number_of_frames + 1))
    ]
    began = time.perf_counter()
    for grey in inputs:
        bundle.session.run(None, {INPUT_NAME: grey[None, None]})
    return time.perf_counter() - began


@cache
def _bundle(path: Path, threads: int | None) -> Bundle:
    """Open a bundle in this process, as whoever has nothing but onnxruntime would."""
    return Bundle(path, threads)


def _received(parts: Parts, folder: Path, seed: int, views: Sequence[int]) -> list[Instance]:
    # UIDs follow from seed and patient
    patient = 1000 * len(views) + views[0]
    shapes = tuple(ViewSpec(quality=4, frames=frames) for frames in views)
    written = write_study(folder / f"{seed}", StudySpec(seed=seed, patient=patient, views=shapes))
    for phantom in written:
        part = parts.inbox.create()
        part.write(phantom.path.read_bytes())
        part.commit()
    register_waiting(parts.inbox, parts.index, now=datetime.now(UTC))
    return list(parts.index.instances(written[0].study_instance_uid))


def _manifest(work: Work, parity: Parity) -> Manifest:
    return Manifest(
        name="random-unet",
        version="0",
        manufacturer="dicom-node benchmarks",
        task=Task.SEGMENTATION,
        labels=tuple(
            Label(value=value, category=_code(ANATOMICAL_STRUCTURE), type=_code(organ))
            for value, organ in enumerate((LIVER, KIDNEY), 1)
        ),
        input=Input(height=work.height, width=work.width),
        provenance=Provenance(
            created_at="2026-01-01T00:00:00+00:00",
            code_version="0",
            recipe="random weights",
            seed=0,
            store_version="none",
            training_frames=0,
        ),
        parity=parity,
    )


def _code(concept: CodedConcept) -> Code:
    return Code(value=concept.value, scheme=concept.scheme, meaning=concept.meaning)

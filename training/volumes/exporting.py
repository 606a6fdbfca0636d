"""A run on volumes as one ``.onnx`` file, for programs of the site: the node serves no volumes."""

import json
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from torch import Tensor, nn

from dicom_node.bundle import Parity
from dicom_node.errors import ConfigError, StoreError
from dicom_node.store.volumes import REGIONS, SHAPE
from training import runs
from training.config import SeriesSettings, VolumeSegmentSettings
from training.export.bundle_file import compare, graph_of
from training.volumes.targets import CHOICES, answers
from training.volumes.tasks import NamingSeries, SegmentingVolumes

#: What the outputs of a file are, in its metadata.
OUTPUTS: Final = "dicom_node.outputs"
#: Volumes on which torch and onnxruntime are compared: noise, with darker and brighter halves.
_SAMPLES: Final = 2


class _Answering(nn.Module):
    """A network that answers with probabilities, all outputs in one tensor."""

    def __init__(self, task: NamingSeries | SegmentingVolumes) -> None:
        super().__init__()
        self.network: nn.Module = task.network
        self._naming = task.network if isinstance(task, NamingSeries) else None

    def forward(self, volumes: Tensor) -> Tensor:
        """Map uint8 (N, 1, S, R, L) to (N, K) or (N, K, S, R, L)."""
        logits = self.network(volumes)
        if self._naming is not None:
            return answers(self._naming.parts(logits))
        probabilities: Tensor = logits.softmax(dim=1)
        return probabilities


def export(run: Path, out: Path) -> Parity:
    """Write the network of a finished run; the file appears whole or not at all.

    Raises
    ------
    ConfigError
        When the file is named otherwise.
    StoreError
        When the run is none on volumes, not finished, or damaged.
    BundleError
        When torch and onnxruntime disagree; nothing is written.
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: name a file that ends in .onnx")
    info = runs.read(run)
    task: NamingSeries | SegmentingVolumes
    if isinstance(info.settings, SeriesSettings):
        task, named = NamingSeries(info.settings), _names()
    elif isinstance(info.settings, VolumeSegmentSettings):
        task = SegmentingVolumes(info.settings)
        named = [f"label {value}" for value in range(info.settings.labels)]
    else:
        raise StoreError(f"{run}: no run on volumes; 'train export' is for runs on frames")
    if info.finished_at is None:
        raise StoreError(f"{run}: not finished; give the same command again to go on")
    runs.load(run / runs.NETWORK, task.network)
    served = _Answering(task).eval()
    side = [length // info.settings.shrink for length in SHAPE]
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 256, (_SAMPLES, 1, *side), dtype=np.uint8)
    sample[:, :, : side[0] // 2] //= 4
    graph = graph_of(served, sample)
    parity = compare(served, graph.SerializeToString(), sample)
    described = {"outputs": named, "store_version": info.store_version, "kind": info.kind}
    onnx.helper.set_model_props(graph, {OUTPUTS: json.dumps(described)})
    out.parent.mkdir(parents=True, exist_ok=True)
    runs.replace(out, graph.SerializeToString())
    return parity


def _names() -> list[str]:
    choices = [f"{head} {name}" for head, names in CHOICES.items() for name in names]
    return [*choices, *(f"region {name}" for name in REGIONS), "log spacing mm"]

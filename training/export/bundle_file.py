"""The file of a bundle: the graph of a network, checked against torch, with its manifest."""

import copy
import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dicom_node.bundle import INPUT_NAME, MANIFEST_KEY, NO_DIGEST, Bundle, Manifest, Parity
from dicom_node.errors import BundleError
from models.layers import ZScore
from models.quality import QualityNetwork
from models.unet import UNet

OPSET = 18
#: Largest difference of a probability that counts as the same answer. Float32 sums in another
#: order differ by about 1e-6; a wrong operator by far more than this.
TOLERANCE = 1e-4
OUTPUT_NAME = "probabilities"

Served = UNet | QualityNetwork


class _Answering(nn.Module):
    """A network that answers with probabilities, as bundles do."""

    def __init__(self, network: Served) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.normalise = ZScore(by_rows=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Map uint8 (N, 1, H, W) to probabilities, (N, K, H, W) or (N, 4)."""
        return self.network.probabilities(frames)


def write_bundle(
    path: Path,
    network: Served,
    sample: NDArray[np.uint8],
    describe: Callable[[Parity], Manifest],
) -> Manifest:
    """Export a network to a bundle; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file; one that is there is replaced.
    network : UNet or QualityNetwork
        On the CPU, in evaluation mode.
    sample : ndarray of uint8, shape (n, 1, H, W)
        Real frames of the input's size to compare torch and onnxruntime on, n >= 1.
    describe : callable
        Makes the manifest, whose digest is still blank.

    Returns
    -------
    Manifest
        As it stands in the file, with its digest.

    Raises
    ------
    BundleError
        When torch and onnxruntime disagree, or the finished file does not open; nothing is left.
    """
    served = _Answering(network).eval()
    graph = graph_of(served, sample)
    parity = compare(served, graph.SerializeToString(), sample)
    content = _sealed(graph, describe(parity))
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        manifest = Bundle(part).manifest
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return manifest


def compare(served: nn.Module, graph: bytes, sample: NDArray[np.uint8]) -> Parity:
    """Compare torch and onnxruntime on frames, one at a time and all together.

    Parameters
    ----------
    served : nn.Module
        Maps uint8 (N, 1, H, W) to probabilities; on the CPU, in evaluation mode.
    graph : bytes
        The same as ONNX.
    sample : ndarray of uint8, shape (n, 1, H, W)

    Raises
    ------
    BundleError
        When a probability differs by more than `TOLERANCE`, or the shapes do.
    """
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = served(torch.from_numpy(sample)).numpy()
    together = session.run(None, {INPUT_NAME: sample})[0]
    single = np.concatenate([session.run(None, {INPUT_NAME: one[None]})[0] for one in sample])
    if not expected.shape == together.shape == single.shape:
        raise BundleError(
            f"torch gives {expected.shape}, onnxruntime {together.shape} and {single.shape}; "
            "nothing was written: try other versions of torch and onnxruntime"
        )
    difference = float(np.max([np.abs(expected - together), np.abs(expected - single)]))
    if not difference <= TOLERANCE:
        raise BundleError(
            f"torch and onnxruntime differ by {difference:.3g}, more than {TOLERANCE:g}; "
            "nothing was written: try other versions of torch and onnxruntime"
        )
    return Parity(max_abs_difference=difference, tolerance=TOLERANCE, frames=len(sample))


def graph_of(served: nn.Module, sample: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the graph of what answers with one tensor, for any number of inputs like `sample`.

    Raises
    ------
    BundleError
        When torch makes none.
    """
    with warnings.catch_warnings():
        # the exporter warns of its own internals; parity is checked in numbers afterwards
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (torch.from_numpy(np.repeat(sample[:1], 2, axis=0)),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            # a batch of one would be taken for a constant
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleError("torch made no ONNX graph; nothing was written")
    model: onnx.ModelProto = program.model_proto
    _forget_sources(model.graph)
    return model


def _forget_sources(graph: onnx.GraphProto) -> None:
    """Drop the exporter's notes: they quote source files, with their paths on this machine."""
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for entry in part:
            entry.ClearField("metadata_props")
            entry.ClearField("doc_string")
    graph.ClearField("metadata_props")


def _sealed(graph: onnx.ModelProto, manifest: Manifest) -> bytes:
    """Return the file's bytes with the manifest in them and its digest filled in."""
    blank = manifest.model_copy(update={"digest": NO_DIGEST})
    onnx.helper.set_model_props(graph, {MANIFEST_KEY: blank.model_dump_json()})
    content: bytes = graph.SerializeToString()
    found = hashlib.sha256(content).hexdigest()
    return content.replace(NO_DIGEST.encode(), found.encode(), 1)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""One ``.onnx`` file is one model bundle: graph, weights and manifest together.

The manifest is JSON under the key `MANIFEST_KEY` of the file's own metadata. Its ``digest`` is the
SHA-256 of the whole file with the digest's 64 characters replaced by zeros, so one number covers
graph, weights and manifest. The file is written by ``training.export`` and read here.

What is inside the graph and what is not, so that training and serving cannot differ:

* input ``frames``: uint8, (N, 1, H, W), grey, already cropped and resized by
  `dicom_node.pixels.geometry`; z-score happens in the graph;
* output of a segmentation: float32, (N, K, H, W), probabilities that sum to 1 over K, channel 0 is
  background;
* output of a quality model: float32, (N, 4), ordinal probabilities P(score > 0) ... P(score > 3).
"""

from dicom_node.bundle.manifest import (
    NO_DIGEST,
    Code,
    Input,
    Label,
    Manifest,
    Parity,
    Provenance,
)
from dicom_node.bundle.opened import (
    CPU,
    CUDA,
    MANIFEST_KEY,
    SERVED_TASKS,
    Bundle,
    digest,
    providers,
)
from dicom_node.bundle.routing import Candidate, Routing
from dicom_node.bundle.signature import INPUT_NAME, ONNXRUNTIME_ERRORS

__all__ = [
    "CPU",
    "CUDA",
    "INPUT_NAME",
    "MANIFEST_KEY",
    "NO_DIGEST",
    "ONNXRUNTIME_ERRORS",
    "SERVED_TASKS",
    "Bundle",
    "Candidate",
    "Code",
    "Input",
    "Label",
    "Manifest",
    "Parity",
    "Provenance",
    "Routing",
    "digest",
    "providers",
]

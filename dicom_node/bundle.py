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

import ctypes
import hashlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom_node.errors import BundleError
from dicom_node.records import GROUPS, Algorithm, CodedConcept, Geometry, Segment, Task

MANIFEST_KEY = "dicom_node.manifest"
NO_DIGEST = "0" * 64
#: Name of the graph's only input; see the module's text for shapes.
INPUT_NAME = "frames"
#: A class of a whole frame has no place in the node's reports.
SERVED_TASKS = (Task.SEGMENTATION, Task.QUALITY)
#: onnxruntime's errors have no common base of their own.
ONNXRUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(_Part):
    """A coded concept of a label."""

    value: str
    scheme: str
    meaning: str

    def concept(self) -> CodedConcept:
        """Return the record that the other stages use."""
        return CodedConcept(value=self.value, scheme=self.scheme, meaning=self.meaning)


class Label(_Part):
    """One segment of a segmentation model; `value` is its channel."""

    value: Annotated[int, Field(ge=1, le=255)]
    category: Code
    type: Code


class Routing(_Part):
    """Which instances the model is for; an empty list does not restrict."""

    groups: tuple[Literal[GROUPS], ...] = ()  # type: ignore[valid-type]
    geometries: tuple[Geometry, ...] = ()

    def fits(self, groups: frozenset[str], geometry: Geometry) -> bool:
        """Whether an instance with these weak labels is for this model."""
        return (not self.groups or bool(groups & set(self.groups))) and (
            not self.geometries or geometry in self.geometries
        )


class Input(_Part):
    """Size of the network's input in pixels."""

    height: Annotated[int, Field(ge=16)] = 256
    width: Annotated[int, Field(ge=16)] = 384


class Provenance(_Part):
    """Where the weights come from."""

    created_at: str
    #: of the code that trained, and of the code that wrote the bundle
    code_version: str
    exported_with: str = ""
    #: of the fine-tuning
    recipe: str
    #: where the encoder's first weights came from; empty where they were drawn at random
    pretraining: str = ""
    seed: int
    #: which snapshot of the store was learned from, and how much of it
    store_version: str
    training_frames: int


class Parity(_Part):
    """How torch and onnxruntime were compared at export, on how many frames."""

    max_abs_difference: float
    tolerance: float
    frames: int


class Manifest(_Part):
    """All that serving has to know of a model."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    version: str
    manufacturer: str
    task: Task
    labels: tuple[Label, ...] = ()
    #: of a quality model: what the scored view is a view of
    finding_sites: tuple[Code, ...] = ()
    routing: Routing = Routing()
    input: Input = Input()
    #: analyse every n-th frame of a cine
    every_nth_frame: Annotated[int, Field(ge=1)] = 1
    #: a segment smaller than this part of the scanned region is noise
    min_area_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    provenance: Provenance
    parity: Parity
    metrics: dict[str, float] = {}
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = NO_DIGEST

    def algorithm(self) -> Algorithm:
        """Return the record that goes into results."""
        return Algorithm(
            name=self.name,
            version=self.version,
            manufacturer=self.manufacturer,
            digest=self.digest,
        )

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments in label order."""
        return tuple(
            Segment(value=label.value, category=label.category.concept(), type=label.type.concept())
            for label in self.labels
        )


class Bundle:
    """A verified bundle, ready to run.

    Parameters
    ----------
    path : Path
        The ``.onnx`` file.
    threads : int, optional
        onnxruntime's intra-op threads; its own choice when absent.

    Raises
    ------
    BundleError
        When the file is no ONNX model, carries no manifest, or its digest does not fit its bytes.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # spinning threads would take the receivers' CPU between frames
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            content = path.read_bytes()
            self.session = ort.InferenceSession(content, options, providers=_providers())
        except OSError as exc:
            raise BundleError(f"{path.name}: cannot be read ({exc.strerror})") from None
        except ONNXRUNTIME_ERRORS as exc:
            raise BundleError(f"{path.name}: onnxruntime refuses it ({exc})") from None
        self.manifest = _manifest(path.name, content, self.session)


def digest(content: bytes, recorded: str) -> str:
    """Return the SHA-256 of a bundle's bytes with its recorded digest blanked.

    Parameters
    ----------
    content : bytes
        The whole file.
    recorded : str
        The digest that stands in the manifest, 64 hexadecimal characters.
    """
    return hashlib.sha256(content.replace(recorded.encode(), NO_DIGEST.encode(), 1)).hexdigest()


def _providers() -> list[str]:
    """Return the CPU, and CUDA before it where the machine has a driver for it.

    onnxruntime-gpu offers everything that it was built with, and complains loudly on standard
    output about each provider that the machine does not have.
    """
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return ["CPUExecutionProvider"]
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in ort.get_available_providers()]


def _manifest(name: str, content: bytes, session: ort.InferenceSession) -> Manifest:
    text = session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
    if text is None:
        raise BundleError(
            f"{name}: an ONNX model without a manifest; export it with 'dicom-node train'"
        )
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as exc:
        fault = exc.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise BundleError(f"{name}: manifest: {key}: {fault['msg']}; export it again") from None
    if manifest.task not in SERVED_TASKS:
        raise BundleError(
            f"{name}: a {manifest.task} model; the node serves {' and '.join(SERVED_TASKS)}: "
            "take the file out of the folder and run it with your own program"
        )
    found = digest(content, manifest.digest)
    if found != manifest.digest:
        raise BundleError(
            f"{name}: its bytes do not fit its digest ({found[:12]} is not "
            f"{manifest.digest[:12]}): damaged or edited; copy or export it again"
        )
    return manifest

"""A bundle that was verified: its bytes, its manifest, its graph."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from dicom_node.bundle.manifest import NO_DIGEST, Manifest
from dicom_node.bundle.signature import (
    INPUT_NAME,
    ONNXRUNTIME_ERRORS,
    black_frames,
    check_answer,
    check_signature,
)
from dicom_node.errors import BundleError, InferenceError
from dicom_node.helper_process import has_library
from dicom_node.records import Task

MANIFEST_KEY = "dicom_node.manifest"
#: A class of a whole frame has no place in the node's reports.
SERVED_TASKS = (Task.SEGMENTATION, Task.QUALITY)
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
_FAILURES: Final[tuple[type[Exception], ...]] = (MemoryError, *ONNXRUNTIME_ERRORS)
_NO_MEMORY: Final = re.compile(r"bad_alloc|[Ff]ailed to allocate|out of memory")
_RECORDED: Final = re.compile(rb'"digest": ?"([0-9a-f]{64})"')
#: What onnxruntime says of a file -> what that means and what to do.
_REFUSALS: Final = (
    (
        _NO_MEMORY,
        "needs more memory than it may have; raise infer.memory_mib, or export it smaller",
    ),
    (
        re.compile(r"Opset (\d+) is under development.* till opset (\d+)", re.DOTALL),
        "is of opset {}, onnxruntime {version} knows none above {}; export it with that opset, or "
        "install a newer onnxruntime",
    ),
    (
        re.compile(r"model IR version: (\d+), max supported IR version: (\d+)"),
        "is of IR version {}, onnxruntime {version} knows none above {}; export it with an older "
        "onnx, or install a newer onnxruntime",
    ),
    (
        re.compile(r"protobuf parsing failed"),
        "is no ONNX model, or a part of one; copy or export it again",
    ),
    (
        re.compile(r".* : [A-Z_]+ : (.{1,200})", re.DOTALL),
        "is refused by onnxruntime {version} ({}); export it again",
    ),
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
        When the file is no ONNX model, carries no manifest, its digest does not fit its bytes, or
        its graph does not take and give what the manifest says.
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
        except OSError as exc:
            raise BundleError(f"{path.name}: cannot be read ({exc.strerror})") from None
        recorded = checked_digest(path.name, content)
        try:
            self.session = ort.InferenceSession(content, options, providers=providers())
        except _FAILURES as exc:
            raise BundleError(f"{path.name}: {_in_words(str(exc))}") from None
        # its own way back to the CPU is for some errors only, and prints
        self.session.disable_fallback()
        written = self.session.get_modelmeta().custom_metadata_map.get(MANIFEST_KEY)
        self.manifest = parsed(path.name, written)
        if self.manifest.digest != recorded:
            raise BundleError(f"{path.name}: its manifest has no digest; export it again")
        check_signature(path.name, self.session, self.manifest)
        try:
            answer = self.answer(black_frames(self.manifest))
        except InferenceError as exc:
            raise BundleError(f"{path.name}: black frames: {exc}; export it again") from None
        check_answer(path.name, answer, self.manifest)

    @property
    def provider(self) -> str:
        """Which execution provider of onnxruntime runs it now."""
        return str(self.session.get_providers()[0])

    def answer(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the graph; where the GPU fails, on the CPU from now on.

        Parameters
        ----------
        frames : ndarray of uint8, shape (N, 1, H, W)

        Returns
        -------
        ndarray of float32, shape (N, K, H, W) or (N, 4)

        Raises
        ------
        InferenceError
            When onnxruntime fails.
        """
        try:
            return self._run(frames)
        except InferenceError:
            if self.provider == CPU:
                raise
        self.session.set_providers([CPU])
        return self._run(frames)

    def _run(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            found: NDArray[np.float32] = self.session.run(None, {INPUT_NAME: frames})[0]
        except _FAILURES as exc:
            out_of_memory = isinstance(exc, MemoryError) or bool(_NO_MEMORY.search(str(exc)))
            raise InferenceError(
                f"the model failed ({type(exc).__name__})", out_of_memory=out_of_memory
            ) from None
        return found


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


def checked_digest(name: str, content: bytes) -> str:
    """Return the digest that stands in the bytes, before onnxruntime is given them; "" if none."""
    written = _RECORDED.findall(content, max(0, content.rfind(MANIFEST_KEY.encode())))
    if not written:
        return ""
    recorded: str = written[-1].decode()
    found = digest(content, recorded)
    if found != recorded:
        raise BundleError(
            f"{name}: its bytes do not fit its digest ({found[:12]} is not "
            f"{recorded[:12]}): damaged or edited; copy or export it again"
        )
    return recorded


def _in_words(message: str) -> str:
    for pattern, words in _REFUSALS:
        if match := pattern.search(message):
            values = (" ".join(value.split()) for value in match.groups())
            return words.format(*values, version=ort.__version__)
    return f"is refused by onnxruntime {ort.__version__}; export it again"


def providers() -> list[str]:
    """Tell what a model is to run on: the CPU, before it CUDA where the machine has a driver.

    onnxruntime-gpu offers everything that it was built with, and complains loudly on standard
    output about each provider that the machine does not have.
    """
    if not has_library("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"):
        return [CPU]
    return [name for name in (CUDA, CPU) if name in ort.get_available_providers()]


def parsed(name: str, text: str | None) -> Manifest:
    """Return the manifest of its JSON; raises BundleError when it will not do."""
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
    return manifest

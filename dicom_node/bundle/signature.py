"""What the graph of a bundle takes and gives, held against its manifest.

The shapes that a graph declares may leave sizes open, so two black frames go through it as well.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from dicom_node.bundle.manifest import Manifest
from dicom_node.errors import BundleError
from dicom_node.records import Task

#: Name of the graph's only input.
INPUT_NAME = "frames"
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
#: Ordinal probabilities of a quality model: P(score > 0) ... P(score > 3).
_SCORES: Final = 4
#: Frames of the trial: a graph that takes one at a time only is found out.
_TRIAL: Final = 2
#: Half precision leaves a probability that far off.
_SLACK: Final = 1e-2
#: None stands for the number of frames, which the graph must leave open.
_Shape = tuple[int | None, ...]


class _Tensor(Protocol):
    name: str
    type: str
    shape: Sequence[object]


def check_signature(
    name: str, session: Any, manifest: Manifest, cure: str = "export it again"
) -> None:
    """Refuse a graph that does not take or give what its manifest says.

    Parameters
    ----------
    name : str
        Of the file, for the sentence.
    session : onnxruntime.InferenceSession
        The graph.
    manifest : Manifest
        Of the same file.
    cure : str
        Ends the sentence.

    Raises
    ------
    BundleError
        Says what it takes or gives, and what it should.
    """
    frames: _Shape = (None, 1, manifest.input.height, manifest.input.width)
    answer = _answer_shape(name, manifest)
    sides: tuple[tuple[str, Sequence[_Tensor], str, _Shape], ...] = (
        (f"takes {INPUT_NAME}", session.get_inputs(), "uint8", frames),
        ("gives", session.get_outputs(), "float", answer),
    )
    for verb, tensors, kind, shape in sides:
        found = ", ".join(map(_words, tensors))
        if len(tensors) != 1 or not _fits(tensors[0], kind, shape):
            raise _mismatch(name, verb, found, f"{kind} {_shown(shape)}", cure)
    if session.get_inputs()[0].name != INPUT_NAME:
        raise _mismatch(name, "takes", session.get_inputs()[0].name, INPUT_NAME, cure)


def black_frames(manifest: Manifest) -> NDArray[np.uint8]:
    """Return what a graph is tried with, (N, 1, H, W)."""
    return np.zeros((_TRIAL, 1, manifest.input.height, manifest.input.width), np.uint8)


def check_answer(name: str, answer: NDArray[np.float32], manifest: Manifest) -> None:
    """Refuse a graph whose answer to `black_frames` is none to its task; raises as above."""
    wanted = _answer_shape(name, manifest)
    if answer.shape != (_TRIAL, *wanted[1:]):
        raise _mismatch(name, f"gives for {_TRIAL} frames", f"{answer.shape}", _shown(wanted))
    sums = answer.sum(axis=1) if manifest.task is Task.SEGMENTATION else np.ones(1)
    # not a number is in no range
    in_range = (answer >= -_SLACK) & (answer <= 1 + _SLACK)
    if not in_range.all() or not (np.abs(sums - 1) <= _SLACK).all():
        raise BundleError(
            f"{name}: answers black frames with {answer.min():.3g} to {answer.max():.3g}, which "
            "are no probabilities; end the graph with a softmax or sigmoid and export it again"
        )


def _answer_shape(name: str, manifest: Manifest) -> _Shape:
    if manifest.task is Task.QUALITY:
        return None, _SCORES
    values = [label.value for label in manifest.labels]
    if not values or values != list(range(1, len(values) + 1)):
        raise BundleError(
            f"{name}: its labels have the values {values}, which must be 1, 2, 3 and so on, one "
            "for each channel after the background; export it again"
        )
    return None, len(values) + 1, manifest.input.height, manifest.input.width


def _fits(tensor: _Tensor, kind: str, shape: _Shape) -> bool:
    return (
        tensor.type == f"tensor({kind})"
        and len(tensor.shape) == len(shape)
        and all(
            not isinstance(found, int) or found == wanted
            for found, wanted in zip(tensor.shape, shape, strict=True)
        )
    )


def _mismatch(
    name: str, verb: str, found: str, wanted: str, cure: str = "export it again"
) -> BundleError:
    return BundleError(
        f"{name}: {verb} {found or 'nothing'}, but a model with this manifest needs {wanted}; "
        f"{cure}"
    )


def _words(tensor: _Tensor) -> str:
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    return f"{kind} {_shown(tuple(tensor.shape))}"


def _shown(shape: Sequence[object]) -> str:
    return f"({', '.join('n' if size is None else str(size) for size in shape)})"

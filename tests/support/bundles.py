"""Tiny real bundles: graphs of a few nodes whose answers can be computed by hand."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dicom_node.bundle import INPUT_NAME, MANIFEST_KEY, NO_DIGEST, digest
from dicom_node.codes import ANATOMICAL_STRUCTURE, LIVER
from dicom_node.records import CodedConcept, Task

HEIGHT, WIDTH = 64, 96
OPSET = 18
PROVENANCE = {
    "created_at": "2026-01-01T00:00:00+00:00",
    "code_version": "0",
    "recipe": "by hand",
    "seed": 0,
    "store_version": "none",
    "training_frames": 0,
}

#: What a manifest says whatever the model.
_ANY = {
    "version": "1",
    "manufacturer": "dicom-node tests",
    "provenance": PROVENANCE,
    "parity": {"max_abs_difference": 0.0, "tolerance": 1e-4, "frames": 1},
    "digest": NO_DIGEST,
}


def write_bundle(
    path: Path,
    task: Task,
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    graph: onnx.GraphProto | None = None,
    opset: int = OPSET,
    **manifest: object,
) -> Path:
    """Write a bundle that calls bright pixels liver, or scores a frame by its mean grey.

    Another `graph` or `opset` takes the place of the right one and is not checked.
    """
    usual = bright_is_liver if task is Task.SEGMENTATION else mean_is_quality
    values = manifest_values(task, height, width) | manifest
    del values["task"]
    is_usual = graph is None and opset == OPSET
    return save_bundle(
        path, graph or usual(height, width), task, opset=opset, is_checked=is_usual, **values
    )


def save_bundle(
    path: Path,
    graph: onnx.GraphProto,
    task: Task,
    *,
    opset: int = OPSET,
    is_checked: bool = True,
    **manifest: object,
) -> Path:
    """Write a graph and its manifest under a true digest."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    text = json.dumps(_ANY | {"name": f"test-{task.value}"} | manifest | {"task": task.value})
    helper.set_model_props(model, {MANIFEST_KEY: text})
    if is_checked:
        onnx.checker.check_model(model)
    content = model.SerializeToString()
    found = digest(content, NO_DIGEST)
    path.write_bytes(content.replace(NO_DIGEST.encode(), found.encode(), 1))
    return path


def bright_is_liver(height: int, width: int) -> onnx.GraphProto:
    """P(liver) = grey / 255, P(background) = 1 - P(liver)."""
    nodes = [
        *_grey(),
        helper.make_node("Sub", ["one", "grey"], ["background"]),
        helper.make_node("Concat", ["background", "grey"], ["probabilities"], axis=1),
    ]
    return helper.make_graph(
        nodes,
        "bright-is-liver",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["n", 1, height, width])],
        [
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["n", 2, height, width]
            )
        ],
        _constants(),
    )


def mean_is_quality(height: int, width: int) -> onnx.GraphProto:
    """P(score > k) = sigmoid(100 (mean grey - threshold k)); thresholds 0.05, 0.1, 0.2, 0.4."""
    nodes = [
        *_grey(),
        helper.make_node("ReduceMean", ["grey", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("Sub", ["means", "thresholds"], ["above"]),
        helper.make_node("Mul", ["above", "steepness"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["ordinal"]),
    ]
    return helper.make_graph(
        nodes,
        "mean-is-quality",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["n", 1, height, width])],
        [helper.make_tensor_value_info("ordinal", TensorProto.FLOAT, ["n", 4])],
        _constants(),
    )


def _grey() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [INPUT_NAME], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["grey"]),
    ]


def _constants() -> list[onnx.TensorProto]:
    values = {
        "white": np.float32(255),
        "one": np.float32(1),
        "axes": np.array([1, 2, 3]),
        "column": np.array([-1, 1]),
        "thresholds": np.array([[0.05, 0.1, 0.2, 0.4]], np.float32),
        "steepness": np.float32(100),
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def manifest_values(task: Task, height: int = HEIGHT, width: int = WIDTH) -> dict[str, object]:
    is_segmentation = task is Task.SEGMENTATION
    return {
        **_ANY,
        "name": f"test-{task.value}",
        "task": task.value,
        "labels": [coded(1, ANATOMICAL_STRUCTURE, LIVER)] if is_segmentation else [],
        "finding_sites": [] if is_segmentation else [_code(LIVER)],
        "input": {"height": height, "width": width},
    }


def coded(value: int, category: CodedConcept, meaning: CodedConcept) -> dict[str, object]:
    """Return a label of a manifest."""
    return {"value": value, "category": _code(category), "type": _code(meaning)}


def _code(concept: CodedConcept) -> dict[str, str]:
    return {"value": concept.value, "scheme": concept.scheme, "meaning": concept.meaning}

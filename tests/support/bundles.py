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
    model = helper.make_model(
        graph or usual(height, width),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    text = json.dumps(manifest_values(task, height, width) | manifest)
    helper.set_model_props(model, {MANIFEST_KEY: text})
    if graph is None and opset == OPSET:
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
    labels = [{"value": 1, "category": _code(ANATOMICAL_STRUCTURE), "type": _code(LIVER)}]
    return {
        "name": f"test-{task.value}",
        "version": "1",
        "manufacturer": "dicom-node tests",
        "task": task.value,
        "labels": labels if task is Task.SEGMENTATION else [],
        "finding_sites": [_code(LIVER)] if task is Task.QUALITY else [],
        "input": {"height": height, "width": width},
        "provenance": PROVENANCE,
        "parity": {"max_abs_difference": 0.0, "tolerance": 1e-4, "frames": 1},
        "digest": NO_DIGEST,
    }


def _code(concept: CodedConcept) -> dict[str, str]:
    return {"value": concept.value, "scheme": concept.scheme, "meaning": concept.meaning}

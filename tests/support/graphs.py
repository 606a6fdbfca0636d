"""Graphs with a fault that their declared shapes do not show."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.bundles import bright_is_liver, mean_is_quality


def answers_three_channels(height: int, width: int) -> onnx.GraphProto:
    """Give three channels, a number that nobody knows before it runs."""
    graph = bright_is_liver(height, width)
    del graph.node[-1]
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["float"], ["brightest"], keepdims=0),
            helper.make_node("Cast", ["brightest"], ["more"], to=TensorProto.INT64),
            helper.make_node("Mul", ["more", "channel"], ["more_channels"]),
            helper.make_node("Add", ["more_channels", "three"], ["repeats"]),
            helper.make_node("Tile", ["grey", "repeats"], ["probabilities"]),
        ]
    )
    graph.initializer.extend(
        numpy_helper.from_array(np.array(array), name)
        for name, array in (("channel", [0, 1, 0, 0]), ("three", [1, 3, 1, 1]))
    )
    graph.output[0].type.tensor_type.shape.dim[1].dim_param = "k"
    return graph


def hangs(height: int, width: int) -> onnx.GraphProto:
    """Answer black at once; go round a loop 9e18 times over a white frame."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still_on"]),
            helper.make_node("Identity", ["state"], ["next"]),
        ],
        "round",
        [
            value("round", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, []),
        ],
        [value("still_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [])],
    )
    return _burdened(
        height,
        width,
        9e18,
        [
            helper.make_node("Cast", ["burden"], ["rounds"], to=TensorProto.INT64),
            helper.make_node("Loop", ["rounds", "on", "nought"], ["extra"], body=body),
        ],
    )


def eats_memory(height: int, width: int) -> onnx.GraphProto:
    """Answer black at once; ask for 40 GB over a white frame."""
    return _burdened(
        height,
        width,
        1e10,
        [
            helper.make_node("Cast", ["burden"], ["size"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["size", "vector"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["nothing"]),
            helper.make_node("ReduceSum", ["nothing"], ["extra"], keepdims=0),
        ],
    )


def _burdened(
    height: int, width: int, weight: float, nodes: list[onnx.NodeProto]
) -> onnx.GraphProto:
    """Put nodes that make ``extra``, which is 0, from ``burden`` in front of the usual graph."""
    graph = mean_is_quality(height, width)
    cast, divide, *others = graph.node
    divide.output[0] = "plain"
    front = [
        helper.make_node("ReduceMax", ["plain"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "weight"], ["burden"]),
        *nodes,
        helper.make_node("Add", ["plain", "extra"], ["grey"]),
    ]
    del graph.node[:]
    graph.node.extend([cast, divide, *front, *others])
    values = {
        "weight": np.float32(weight),
        "nought": np.float32(0),
        "on": np.bool_(True),
        "vector": np.array([1]),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()
    )
    return graph

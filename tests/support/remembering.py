"""Real bundles that know phantoms by heart: their answer is anatomy, and known beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dicom_node.bundle import INPUT_NAME
from dicom_node.codes import ANATOMICAL_STRUCTURE, KIDNEY, LIVER
from dicom_node.phantom.study import PhantomInstance
from dicom_node.pixels.facts import read_facts
from dicom_node.pixels.geometry import to_network
from dicom_node.records import Task
from tests.support.bundles import coded, save_bundle

HEIGHT, WIDTH = 256, 384
#: A frame is known again by its mean grey in 8 x 12 tiles.
_TILE = 32


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a network saw once, and what it is to answer when it sees it again."""

    #: uint8, (K, H, W)
    frames: NDArray[np.uint8]
    #: uint8, (K, H, W): 0 background, 1 liver, 2 kidney
    label_maps: NDArray[np.uint8]
    #: 0 to 4, (K,)
    scores: NDArray[np.int64]


def memory_of(instances: Sequence[PhantomInstance], *, without: Sequence[int] = ()) -> Memory:
    """Return what is true of phantoms; in the cines' frames `without` nothing is to be found."""
    frames, label_maps, scores = [], [], []
    for instance in instances:
        region = read_facts(instance.path).region
        for number, (frame, labels) in enumerate(
            zip(instance.frames, instance.label_maps, strict=True), start=1
        ):
            frames.append(to_network(frame, region, height=HEIGHT, width=WIDTH))
            seen = to_network(labels, region, height=HEIGHT, width=WIDTH, nearest=True)
            is_hidden = len(instance.frames) > 1 and number in without
            label_maps.append(np.zeros_like(seen) if is_hidden else seen)
            scores.append(instance.quality)
    return Memory(frames=np.stack(frames), label_maps=np.stack(label_maps), scores=np.array(scores))


def write_remembering(path: Path, task: Task, memory: Memory) -> Path:
    """Write a bundle that answers for a frame what it knows of the most similar one."""
    if task is Task.SEGMENTATION:
        answers = (memory.label_maps[:, None] == np.arange(3)[:, None, None]).astype(np.float32)
        name = "probabilities"  # (K, 3, H, W)
    else:
        answers = (memory.scores[:, None] > np.arange(4)).astype(np.float32) * 0.9 + 0.05
        name = "ordinal"  # (K, 4)
    labels = [coded(1, ANATOMICAL_STRUCTURE, LIVER), coded(2, ANATOMICAL_STRUCTURE, KIDNEY)]
    return save_bundle(
        path,
        _most_similar(memory.frames, answers, name),
        task,
        name=f"phantom-{task.value}",
        labels=labels if task is Task.SEGMENTATION else [],
        input={"height": HEIGHT, "width": WIDTH},
    )


def _most_similar(
    frames: NDArray[np.uint8], answers: NDArray[np.float32], name: str
) -> onnx.GraphProto:
    """The answer whose frame has the least squared distance in tiles."""
    tiles = frames.reshape(-1, HEIGHT // _TILE, _TILE, WIDTH // _TILE, _TILE).mean(axis=(2, 4))
    pool = {"kernel_shape": [_TILE, _TILE], "strides": [_TILE, _TILE]}
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["float"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["float"], ["pooled"], **pool),
        helper.make_node("Sub", ["pooled", "tiles"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "axes"], ["distance"], keepdims=0),
        helper.make_node("ArgMin", ["distance"], ["which"], axis=1, keepdims=0),
        helper.make_node("Gather", ["answers", "which"], [name], axis=0),
    ]
    constants = {
        "tiles": tiles[None].astype(np.float32),  # (1, K, 8, 12)
        "axes": np.array([2, 3]),
        "answers": answers,
    }
    return helper.make_graph(
        nodes,
        "most-similar",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["n", 1, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *answers.shape[1:]])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )

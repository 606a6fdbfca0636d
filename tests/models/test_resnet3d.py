import pytest
import torch

from models.resnet3d import DEPTHS, ResNet3d
from models.series import SeriesNetwork
from models.volume_segmenter import VolumeSegmenter


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_is_the_number_of_its_layers(depth: int) -> None:
    network = ResNet3d(depth, width=4)
    layers = [
        m
        for n, m in network.named_modules()
        if isinstance(m, torch.nn.Conv3d) and "around" not in n
    ]
    assert len(layers) + 1 == depth  # and the linear layer of the heads


def test_the_published_size_goes_through_with_the_published_strides() -> None:
    network = ResNet3d(10, width=2).eval()
    with torch.no_grad():
        features = network(torch.zeros(1, 1, 48, 192, 192, dtype=torch.uint8))
    sides = [tuple(one.shape[1:]) for one in features]
    assert sides == [
        (2, 48, 96, 96), (2, 24, 48, 48), (4, 12, 24, 24), (8, 6, 12, 12), (16, 3, 6, 6)
    ]  # fmt: skip
    assert network.channels == (2, 2, 4, 8, 16)


def test_heads_part_the_logits() -> None:
    network = SeriesNetwork(ResNet3d(10, width=2), {"a": 3, "b": 1})
    logits = network(torch.zeros(2, 1, 12, 48, 48, dtype=torch.uint8))
    parts = network.parts(logits)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {"a": (2, 3), "b": (2, 1)}


@pytest.mark.parametrize("shape", [(12, 48, 48), (24, 96, 96), (10, 44, 50)])
def test_a_segmenter_labels_every_voxel(shape: tuple[int, int, int]) -> None:
    network = VolumeSegmenter(ResNet3d(10, width=2), labels=3)
    assert network(torch.zeros(1, 1, *shape, dtype=torch.uint8)).shape == (1, 3, *shape)

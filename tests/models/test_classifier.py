import pytest
import torch

from models.classifier import ClassNetwork
from models.encoders import build


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_one_logit_a_class_and_probabilities_that_sum_to_one(name: str) -> None:
    torch.manual_seed(0)
    network = ClassNetwork(build(name, width=4), classes=3).eval()
    frames = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert network(frames).shape == (2, 3)
        answer = network.probabilities(frames)
    assert torch.allclose(answer.sum(dim=1), torch.ones(2), atol=1e-6)
    assert torch.equal(answer.argmax(dim=1), network(frames).argmax(dim=1))


def test_the_brightness_and_contrast_of_a_frame_do_not_count() -> None:
    torch.manual_seed(0)
    network = ClassNetwork(build("small", width=4), classes=2).eval()
    dim = torch.randint(0, 100, (1, 1, 64, 64), dtype=torch.uint8)
    assert torch.allclose(network(dim), network(dim * 2 + 30), atol=1e-4)

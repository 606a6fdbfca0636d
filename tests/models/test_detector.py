import pytest
import torch

from models import encoders
from models.detector import HEADS, Detector


def built(name: str = "small", heads: str = "full") -> Detector:
    torch.manual_seed(0)
    return Detector(encoders.build(name, width=2), 1, height=64, width=96, heads=HEADS[heads])


@pytest.mark.parametrize("heads", HEADS)
def test_a_detector_tells_losses_in_training_and_what_it_finds_otherwise(heads: str) -> None:
    network = built(heads=heads)
    frames = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[0, 8:40, 8:40] = 1
    there = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": masks,
    }
    nothing = {name: value[:0] for name, value in there.items()}
    losses = network(frames, [there, nothing])
    assert {"loss_classifier", "loss_mask", "loss_objectness"} <= set(losses)
    torch.stack(list(losses.values())).sum().backward()
    assert all(weight.grad is not None for weight in network.encoder.parameters())
    found = network.eval()(frames)
    assert len(found) == 2
    assert found[0]["masks"].shape[1:] == (1, 64, 96)


@pytest.mark.parametrize(("name", "kept"), [("resnet18", True), ("small", False)])
def test_the_first_stage_of_a_resnet_can_be_kept(name: str, kept: bool) -> None:
    network = built(name)
    network.freeze_early()
    frozen = {n for n, w in network.encoder.named_parameters() if not w.requires_grad}
    assert bool(frozen) == kept
    assert {n.split(".")[0] for n in frozen} <= {"conv1", "bn1", "layer1"}
    learning = {n.split(".")[0] for n, part in network.encoder.named_modules() if part.training}
    assert learning.isdisjoint({"conv1", "bn1", "layer1"})
    assert network.eval().train().training
    assert kept == any(not part.training for part in network.encoder.modules())


def test_slim_heads_have_a_tenth_of_the_weights() -> None:
    full, slim = (built("resnet18", heads) for heads in ("full", "slim"))
    encoder = sum(weight.numel() for weight in full.encoder.parameters())
    sizes = [sum(w.numel() for w in network.parameters()) - encoder for network in (full, slim)]
    assert sizes[1] < sizes[0] / 10

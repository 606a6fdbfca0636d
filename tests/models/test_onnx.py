"""Networks as ONNX of opset 18: onnxruntime gives what torch gives, for any batch.

The U-Net and the quality network on the small encoder are in tests/training/test_export.py.
"""

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from models.classifier import ClassNetwork
from models.context_encoder import ContextEncoder
from models.discriminator import ProjectionDiscriminator
from models.encoders import build
from models.layers import ZScore
from models.unet import UNet

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "classes": lambda: ClassNetwork(build("small", width=4), 3),
    "context encoder": lambda: ContextEncoder(build("small", width=4)),
    "U-Net, resnet18": lambda: UNet(build("resnet18"), 3),
    "U-Net, resnet50": lambda: UNet(build("resnet50"), 3),
    "U-Net, vgg16_bn": lambda: UNet(build("vgg16_bn"), 3),
    "U-Net, efficientnet_lite0": lambda: UNet(build("efficientnet_lite0"), 3),
}


def frames(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 1, 32, 64), dtype=torch.uint8, generator=generator)


def exported(network: nn.Module, inputs: tuple[Tensor, ...]) -> ort.InferenceSession:
    file, n = io.BytesIO(), torch.export.Dim("n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            opset_version=18,
            dynamic_shapes=tuple({0: n} for _ in inputs),
            verbose=False,
        )
    assert program is not None
    program.save(file)
    assert {entry.version for entry in program.model_proto.opset_import if not entry.domain} == {18}
    return ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])


def assert_parity(
    network: nn.Module, session: ort.InferenceSession, inputs: tuple[Tensor, ...]
) -> None:
    with torch.no_grad():
        expected = network(*inputs)
    names = [entry.name for entry in session.get_inputs()]
    fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    answers = session.run(None, fed)
    tensors = expected if isinstance(expected, tuple) else (expected,)
    for answer, tensor in zip(answers, tensors, strict=True):
        assert answer.shape == tensor.shape
        scale = max(1.0, float(tensor.abs().max()))
        assert np.abs(answer - tensor.numpy()).max() <= TOLERANCE * scale


def warmed(network: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """Give batch normalisation the statistics of some frames, so that activations do not fade."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        network.train()(*inputs)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_what_torch_gives(name: str) -> None:
    torch.manual_seed(0)
    network = warmed(NETWORKS[name](), (frames(4),))
    session = exported(network, (frames(2),))
    for count in (1, 3):
        assert_parity(network, session, (frames(count),))


def test_the_discriminator_gives_the_same_with_its_tags() -> None:
    def patches(count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(count)
        y = torch.randint(0, 2, (count, 10), generator=generator).float()
        return torch.randn(count, 1, 32, 48, generator=generator), y

    torch.manual_seed(0)
    network = warmed(ProjectionDiscriminator(10), patches(4))
    session = exported(network, patches(2))
    for count in (1, 3):
        assert_parity(network, session, patches(count))


def test_normalising_a_large_frame_costs_no_digits_in_onnxruntime() -> None:
    rng = np.random.default_rng(0)
    speckle = rng.integers(0, 256, (2, 1, 256, 384))
    # nearly black with a few bright pixels, as ultrasound is
    seen = np.where(rng.random(speckle.shape) < 0.97, 3, speckle).astype(np.uint8)
    answer = exported(ZScore(by_rows=True), (torch.from_numpy(seen),)).run(None, {"frames": seen})[
        0
    ]
    exact = seen.astype(np.float64)
    exact = (exact - exact.mean(axis=(1, 2, 3), keepdims=True)) / exact.std(
        axis=(1, 2, 3), keepdims=True
    )
    assert np.abs(answer - exact).max() < 5e-6  # of values up to 10

import random
from pathlib import Path

import pytest
import torch
from torchvision import models as published

from models.encoders import Encoder, SmallEncoder, build, load_imagenet
from models.layers import InvertedResidual

#: parameters of the published network, as its documentation counts them, less the classifier's
PARAMETERS = {
    "resnet18": 11_689_512 - (512 * 1000 + 1000),
    "resnet50": 25_557_032 - (2048 * 1000 + 1000),
    "vgg16_bn": 138_365_992 - (512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000),
    # of the published file
    "efficientnet_lite0": 4_652_008 - (1280 * 1000 + 1000),
}


def assert_told(encoder: Encoder, size: tuple[int, int]) -> None:
    """Check features against the channels and strides that the encoder tells."""
    with torch.no_grad():
        features = encoder(torch.zeros(2, encoder.in_channels, *size))
    assert len(features) == len(encoder.channels) == len(encoder.strides)
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(
    "name", ["small", "resnet18", "resnet50", "vgg16_bn", "efficientnet_lite0"]
)
def test_features_have_the_channels_and_strides_that_the_encoder_tells(name: str) -> None:
    encoder = build(name)
    assert_told(encoder, (32, 64))
    assert encoder.strides == ((1,) if name == "vgg16_bn" else ()) + (2, 4, 8, 16, 32)
    assert encoder.in_channels == (1 if name == "small" else 3)


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_odd_sizes_are_rounded_up(name: str) -> None:
    assert_told(build(name, width=4), (100, 130))


@pytest.mark.parametrize("name", ["small", "resnet18", "vgg16_bn", "efficientnet_lite0"])
def test_the_last_block_alone_makes_the_last_step_to_the_deepest_features(name: str) -> None:
    encoder = build(name, width=2).eval()
    weights = {id(weight) for weight in encoder.last_block.parameters()}
    *_, convolution = [w for w in encoder.parameters() if w.dim() == 4]
    assert id(convolution) in weights
    assert len([w for w in encoder.last_block.parameters() if w.dim() == 4]) <= 2


@pytest.mark.parametrize("name", ["small", "resnet18", "vgg16_bn", "efficientnet_lite0"])
def test_each_stage_gives_the_features_of_its_stride(name: str) -> None:
    encoder = build(name, width=2).eval()
    given: list[torch.Tensor] = []
    for stage in encoder.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: given.append(output))
    with torch.no_grad():
        features = encoder(torch.rand(1, encoder.in_channels, 32, 32))
    assert len(given) == len(features)
    assert all(torch.equal(one, other) for one, other in zip(given, features, strict=True))


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_encoder_is_as_large_as_the_published_network_without_its_classifier(name: str) -> None:
    assert sum(weight.numel() for weight in build(name).parameters()) == PARAMETERS[name]


def test_width_is_that_of_the_first_level_of_the_small_encoder() -> None:
    assert build("small", width=6).channels == (6, 12, 24, 36, 48)


def test_an_unknown_encoder_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="'vgg19' is no encoder; take one of small, resnet18, "):
        build("vgg19")


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imagenet") / "resnet18-00000000.pth"
    torch.manual_seed(7)
    torch.save(published.resnet18().state_dict(), path)  # noqa: TID251 as torchvision publishes it
    return path


def test_torchvisions_file_makes_the_features_those_of_torchvisions_network(
    resnet18_file: Path,
) -> None:
    torch.manual_seed(7)
    original = published.resnet18().eval()
    encoder = build("resnet18").eval()
    load_imagenet(encoder, resnet18_file)
    frames = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = encoder(frames)[-1].mean(dim=(2, 3))
        assert torch.equal(original.fc(pooled), original(frames))


def test_vgg_features_are_those_of_torchvisions_layers(tmp_path: Path) -> None:
    torch.manual_seed(7)
    features = build("vgg16_bn").state_dict()
    with_classifier = {**features, "classifier.6.bias": torch.zeros(1000)}
    torch.save(with_classifier, tmp_path / "vgg.pth")  # noqa: TID251 as torchvision publishes it
    encoder = build("vgg16_bn")
    load_imagenet(encoder, tmp_path / "vgg.pth")
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in features.items())
    with torch.device("meta"):  # the names and shapes of the original, without its 138 million
        original = published.vgg16_bn().features.state_dict(prefix="features.")
    assert {key: value.shape for key, value in original.items()} == {
        key: value.shape for key, value in features.items()
    }


def test_the_published_keys_of_efficientnet_lite_fit_less_their_underscores(tmp_path: Path) -> None:
    encoder = build("efficientnet_lite0")
    published_keys = {
        ".".join(part if part.isdecimal() else f"_{part}" for part in owner.split("."))
        + f".{name}": v
        for key, v in encoder.state_dict().items()
        for owner, _, name in [key.rpartition(".")]
    }
    assert "_blocks.1._depthwise_conv.weight" in published_keys
    published_keys["_fc.weight"] = torch.zeros(1000, 1280)
    torch.save(published_keys, tmp_path / "lite.pth")  # noqa: TID251 as the package holds it
    other = build("efficientnet_lite0")
    load_imagenet(other, tmp_path / "lite.pth")
    assert all(torch.equal(v, other.state_dict()[key]) for key, v in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("kernel", "stride", "first"), [(3, 1, -1), (3, 2, 0), (5, 1, -2), (5, 2, -1)]
)
def test_efficientnet_lite_pads_as_tensorflow_does(kernel: int, stride: int, first: int) -> None:
    block = InvertedResidual(1, 1, expand=1, kernel=kernel, stride=stride).eval()
    torch.nn.init.zeros_(block.depthwise_conv.weight)
    block.depthwise_conv.weight.data[..., 0, 0] = 1.0
    torch.nn.init.ones_(block.project_conv.weight)
    frames = torch.arange(1.0, 7.0).expand(1, 1, 6, 6) / 10
    with torch.no_grad():
        seen = block(frames) - (frames if block.is_added else 0)
    # the first weight of the kernel stands over this column when the first output is made
    wanted = [(1 + first + at) / 10 for at in range(0, 6, stride)]
    assert seen[0, 0, -1].tolist() == pytest.approx([max(0.0, one) for one in wanted], abs=2e-3)


def test_a_file_from_before_batches_were_counted_fits(resnet18_file: Path, tmp_path: Path) -> None:
    content = torch.load(resnet18_file, weights_only=True)  # noqa: TID251
    old = {key: value for key, value in content.items() if not key.endswith("batches_tracked")}
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # noqa: TID251
    encoder = build("resnet18")
    load_imagenet(encoder, tmp_path / "old.pth")
    assert torch.equal(encoder.state_dict()["layer4.1.bn2.weight"], content["layer4.1.bn2.weight"])


@pytest.mark.parametrize("name", ["small", "resnet50", "vgg16_bn"])
def test_the_file_of_another_network_is_refused_and_changes_nothing(
    name: str, resnet18_file: Path
) -> None:
    encoder = build(name, width=4)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=r"resnet18-0+\.pth is of another network than the enc"):
        load_imagenet(encoder, resnet18_file)
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())


def test_missing_weights_are_counted_and_the_first_is_named(
    resnet18_file: Path, tmp_path: Path
) -> None:
    content = torch.load(resnet18_file, weights_only=True)  # noqa: TID251
    del content["layer1.0.conv2.weight"], content["layer3.0.bn1.bias"]
    torch.save(content, tmp_path / "some.pth")  # noqa: TID251
    with pytest.raises(ValueError, match=r": 2 entries .* the first is layer1\.0\.conv2\.weight;"):
        load_imagenet(build("resnet18"), tmp_path / "some.pth")


def test_a_damaged_file_is_refused_with_a_sentence(resnet18_file: Path, tmp_path: Path) -> None:
    whole, draw = resnet18_file.read_bytes(), random.Random(0)
    damaged = [whole[: len(whole) // 2], b"", *(draw.randbytes(60) for _ in range(40))]
    encoder = SmallEncoder(2)
    for content in damaged:
        (tmp_path / "damaged.pth").write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged\.pth cannot be read as a state dict"):
            load_imagenet(encoder, tmp_path / "damaged.pth")


def test_a_missing_file_and_another_thing_than_a_state_dict_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pth cannot be read .*FileNotFoundError"):
        load_imagenet(SmallEncoder(2), tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")  # noqa: TID251
    with pytest.raises(ValueError, match=r"other\.pth holds no state dict"):
        load_imagenet(SmallEncoder(2), tmp_path / "other.pth")

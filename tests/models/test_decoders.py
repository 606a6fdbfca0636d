import pytest
import torch

from models.decoders import ContextDecoder, UNetDecoder


@pytest.mark.parametrize("strides", [(1, 2, 4), (2, 4, 8), (4, 8, 16)])
def test_the_map_has_the_size_of_the_frame(strides: tuple[int, ...]) -> None:
    channels = (36, 40, 48)
    features = [torch.zeros(2, c, 32 // s, 48 // s) for c, s in zip(channels, strides, strict=True)]
    decoder = UNetDecoder(channels, strides)
    assert decoder(features).shape == (2, decoder.out_channels, 32, 48) == (2, 18, 32, 48)


def test_every_scale_reaches_the_map() -> None:
    torch.manual_seed(0)
    features = [
        torch.randn(1, c, 32 // s, 32 // s, requires_grad=True) for c, s in ((4, 2), (6, 4), (8, 8))
    ]
    UNetDecoder((4, 6, 8), (2, 4, 8))(features).square().mean().backward()
    for feature in features:
        assert feature.grad is not None
        assert feature.grad.abs().max() > 0


def widths(decoder: UNetDecoder) -> list[tuple[int, int, int]]:
    """Channels before, between and after of each up-convolution block."""
    return [
        (block[0].in_channels, block[0].out_channels, block[3].out_channels)
        for block in decoder.blocks
    ]


def test_on_vgg16_the_widths_are_those_of_ternausnet_but_one() -> None:
    decoder = UNetDecoder((64, 128, 256, 512, 512, 512), (1, 2, 4, 8, 16, 32))
    assert widths(decoder) == [
        (512, 512, 256),
        (512 + 256, 512, 256),
        (512 + 256, 512, 128),  # TernausNet: 256
        (256 + 128, 256, 64),
        (128 + 64, 128, 32),
    ]
    assert decoder.last[0].in_channels == 64 + 32
    assert decoder.out_channels == 32


def test_on_resnet50_a_fifth_block_without_a_skip_reaches_the_full_size() -> None:
    decoder = UNetDecoder((64, 256, 512, 1024, 2048), (2, 4, 8, 16, 32))
    assert [before for before, _, _ in widths(decoder)] == [2048, 1536, 768, 384, 96]
    assert decoder.last[0].in_channels == decoder.out_channels == 32


def test_the_context_decoder_doubles_four_times() -> None:
    decoder = ContextDecoder(6)
    assert decoder(torch.zeros(2, 6, 2, 3)).shape == (2, 1, 32, 48)
    widths = [part.out_channels for part in decoder.modules() if hasattr(part, "out_channels")]
    assert widths == [512, 256, 128, 64, 1]


def test_the_context_decoder_paints_darker_and_brighter_than_the_mean() -> None:
    torch.manual_seed(0)
    painted = ContextDecoder(6)(torch.randn(2, 6, 2, 3))
    assert painted.min() < 0 < painted.max()

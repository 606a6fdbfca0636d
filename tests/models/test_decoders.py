import torch

from models.decoders import ContextDecoder, UNetDecoder


def test_the_map_has_the_size_of_the_finest_features() -> None:
    channels = (3, 5, 7)
    features = [
        torch.zeros(2, c, 24 // s, 36 // s) for c, s in zip(channels, (1, 2, 4), strict=True)
    ]
    decoder = UNetDecoder(channels)
    assert decoder(features).shape == (2, decoder.out_channels, 24, 36) == (2, 3, 24, 36)


def test_every_scale_reaches_the_map() -> None:
    torch.manual_seed(0)
    features = [
        torch.randn(1, c, 32 // s, 32 // s, requires_grad=True) for c, s in ((4, 2), (6, 4), (8, 8))
    ]
    UNetDecoder((4, 6, 8))(features).square().mean().backward()
    for feature in features:
        assert feature.grad is not None
        assert feature.grad.abs().max() > 0


def test_the_context_decoder_doubles_four_times() -> None:
    decoder = ContextDecoder(6)
    assert decoder(torch.zeros(2, 6, 2, 3)).shape == (2, 1, 32, 48)
    widths = [part.out_channels for part in decoder.modules() if hasattr(part, "out_channels")]
    assert widths == [512, 256, 128, 64, 1]


def test_the_context_decoder_paints_darker_and_brighter_than_the_mean() -> None:
    torch.manual_seed(0)
    painted = ContextDecoder(6)(torch.randn(2, 6, 2, 3))
    assert painted.min() < 0 < painted.max()

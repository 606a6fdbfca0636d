import pytest
import torch

from models.encoders import SmallEncoder


@pytest.mark.parametrize("size", [(64, 96), (100, 130)])
def test_features_have_the_channels_and_strides_that_the_encoder_tells(
    size: tuple[int, int],
) -> None:
    encoder = SmallEncoder(width=4)
    features = encoder(torch.zeros(2, 1, *size))
    assert len(features) == len(encoder.channels) == len(encoder.strides) == 5
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))

import torch
from torch import nn

from models.layers import ConvBlock, UpBlock, ZScore, draw_normal


def test_z_score_gives_each_frame_zero_mean_and_unit_deviation() -> None:
    frames = torch.randint(0, 256, (3, 1, 20, 30), dtype=torch.uint8)
    frames[1] //= 4  # a dim frame ends like a bright one
    scaled = ZScore()(frames)
    assert scaled.dtype == torch.float32
    for frame in scaled:
        assert abs(float(frame.mean())) < 1e-4
        assert abs(float(frame.std(correction=0)) - 1) < 1e-4


def test_z_score_survives_a_frame_of_one_grey() -> None:
    assert torch.equal(
        ZScore()(torch.full((1, 1, 8, 8), 7, dtype=torch.uint8)).abs().max(), torch.tensor(0.0)
    )


def test_conv_block_rounds_odd_sizes_up() -> None:
    assert ConvBlock(2, 5, stride=2)(torch.zeros(1, 2, 9, 12)).shape == (1, 5, 5, 6)


def test_up_block_doubles() -> None:
    assert UpBlock(inputs=6, middle=4, outputs=3)(torch.zeros(2, 6, 5, 7)).shape == (2, 3, 10, 14)


def test_drawn_weights_have_the_spread_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(16, 32, 3), nn.ConvTranspose2d(32, 16, 3), nn.BatchNorm2d(16), nn.Linear(99, 99)
    )
    draw_normal(layers, std=0.1)
    for layer in (layers[0], layers[1], layers[3]):
        assert abs(float(layer.weight.detach().std()) - 0.1) < 0.005
        assert not layer.bias.detach().any()
    assert (layers[2].weight == 1).all()

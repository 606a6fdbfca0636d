"""Whether tags teach an encoder what pixels do not, on frames where the answer is known."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from models import encoders
from models.context_encoder import ContextEncoder
from models.discriminator import ProjectionDiscriminator
from tests.support.planted import CUE_PX, HOLE, SIDE_PX, Planted, planted
from training.config import Engine
from training.engine import launch
from training.loop import Plan, fit
from training.pretexts.context_encoder import ContextEncoding, Filler, Options
from training.tags import TAG_BITS

#: Of the pattern around the hole against the noise.
CUE = 0.5
STEPS, BATCH = 300, 32
PROBED, TESTED = 512, 1024
#: Pixels and discriminator weigh the same: 300 steps are few for the papers' 0.99 and 0.01.
WEIGHTS = {"reconstruction_weight": 0.5, "adversarial_weight": 0.5}
LEARNING_RATES = (1e-3, 1e-4)
#: Of Adam, as Miyato and Koyama have it; the papers' is 0.9.
FIRST_BETA = 0.0
#: Of the decoder, an eighth of the papers', and of the discriminator, a quarter: that leaves time
#: for so many steps that the answer hangs neither on the seed nor on the last bit of a sum.
DECODER = (64, 32, 32, 16)
DISCRIMINATOR = (16, 32, 64, 128)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tags_teach_what_pixels_do_not_and_shuffled_tags_teach_nothing(
    record_property: Callable[[str, object], None],
) -> None:
    frames = planted(STEPS * BATCH, cue=CUE, seed=1, batch_size=BATCH)
    found = {
        "CE": _probed(_pretrained(frames, tags=False)),
        "CE+DCM": _probed(_pretrained(frames, tags=True)),
        "CE+DCM, shuffled": _probed(_pretrained(frames.shuffled(), tags=True)),
    }
    record_property("probe", found)
    assert found["CE+DCM"] > 0.85, found
    assert found["CE+DCM"] - found["CE"] > 0.15, found
    assert found["CE+DCM"] - found["CE+DCM, shuffled"] > 0.15, found


def test_the_squared_difference_rewards_no_guess_at_the_planted_stripes() -> None:
    frames = planted(2000, cue=CUE, seed=3)
    holes = frames.frames[:, 0, HOLE, HOLE].numpy().astype(np.float64)
    kind = frames.kind
    # the best guess is the mean; knowing the tag makes it better by no more than chance does
    apart = holes[kind].mean(axis=0) - holes[~kind].mean(axis=0)
    explained = (apart**2).mean() * kind.mean() * (~kind).mean() / holes.var(axis=0).mean()
    assert explained < 0.005
    # ... while whoever looks for stripes finds them
    down, across = (np.abs(np.diff(holes, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    np.testing.assert_array_equal(across > down, kind)


def test_the_context_tells_the_tag_to_whoever_knows_what_to_look_for() -> None:
    frames = planted(500, cue=CUE, seed=4)
    context = frames.frames[:, 0].numpy().astype(np.float64)
    context[:, HOLE, HOLE] = context.mean(axis=(1, 2), keepdims=True)
    waves, at = np.abs(np.fft.fft2(context)), SIDE_PX // CUE_PX
    assert ((waves[:, 0, at] > waves[:, at, 0]) == frames.kind).mean() > 0.99


def _pretrained(frames: Planted, *, tags: bool) -> ContextEncoder:
    """Pretrain for one epoch; the arms differ in the tags alone."""
    torch.manual_seed(0)
    context = ContextEncoder(encoders.build("small", width=8))
    context.decoder = _narrow_decoder(context.encoder.channels[-1])
    task = ContextEncoding(
        Options(tags=tags, **WEIGHTS),
        Filler(context, None),
        ProjectionDiscriminator(TAG_BITS if tags else 0, widths=DISCRIMINATOR),
        LEARNING_RATES,
    )
    for player in task.players.values():
        for group in player.optimizer.param_groups:
            group["betas"] = (FIRST_BETA, group["betas"][1])
    validation = planted(BATCH, cue=CUE, seed=2)
    fit(_fabric(), task, (frames, validation), Plan(epochs=1, seed=0))  # type: ignore[arg-type]
    return context.eval()


def _probed(context: ContextEncoder) -> float:
    """Return how often a linear probe on frozen features names the tag of a frame's context."""
    known, asked = planted(PROBED, cue=CUE, seed=5), planted(TESTED, cue=CUE, seed=6)
    features = [_features(context, one.frames) for one in (known, asked)]
    mean, spread = features[0].mean(axis=0), features[0].std(axis=0) + 1e-6
    one, other = (np.c_[(found - mean) / spread, np.ones(len(found))] for found in features)
    # ridge regression
    square = one.T @ one + 0.01 * PROBED * np.eye(one.shape[1])
    weights = np.linalg.solve(square, one.T @ np.where(known.kind, 1, -1))
    return float(((other @ weights > 0) == asked.kind).mean())


@torch.no_grad()
def _features(context: ContextEncoder, frames: Tensor) -> NDArray[np.float64]:
    """Return pooled features of frames without their holes, (N, C)."""
    features, _ = context.look(frames)
    return features.mean(dim=(2, 3)).double().numpy()


def _narrow_decoder(inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below, above in zip((inputs, *DECODER[:-1]), DECODER, strict=True):
        layers += [
            nn.ConvTranspose2d(below, above, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(above),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(DECODER[-1], 1, 3, padding=1))


@cache
def _fabric() -> Fabric:
    return launch(Engine(accelerator="cpu"))

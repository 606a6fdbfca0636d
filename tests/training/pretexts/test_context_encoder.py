import pytest
import torch

from dicom_node.errors import ConfigError
from training import pretexts
from training.config import PretrainSettings, Size, Strategy
from training.loop import Batch, Networks
from training.pretexts.context_encoder import ContextEncoding
from training.tags import TAG_BITS

CE_DCM = {"adversarial": "hinge", "tags": True}


def pretext(**options: float | bool | str) -> ContextEncoding:
    torch.manual_seed(0)
    settings = PretrainSettings(
        strategy=Strategy(name="test", pretext="context_encoder", options=options),
        encoder="small",
        encoder_width=4,
        size=Size(height=64, width=64),
    )
    built = pretexts.build(settings)
    assert isinstance(built, ContextEncoding)
    return built


def networks(task: ContextEncoding, *, training: bool = True) -> Networks:
    return {name: player.network.train(training) for name, player in task.players.items()}


def batch(frames: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (frames, 1, 64, 64), dtype=torch.uint8, generator=generator)
    tags = torch.zeros(frames, TAG_BITS)
    tags[torch.arange(frames), torch.arange(frames) % 2] = 1
    tags[:, 4] = 1
    return {"frames": pixels, "tags": tags}


def test_the_loss_of_f_is_the_weighted_sum_of_the_papers() -> None:
    task, given = pretext(**CE_DCM), batch()
    found = task.loss("filler", networks(task), given)
    patch, target = given["patch"].tolist(), given["target"].tolist()
    squares = [
        (a - b) ** 2
        for frame in range(4)
        for row_a, row_b in zip(patch[frame][0], target[frame][0], strict=True)
        for a, b in zip(row_a, row_b, strict=True)
    ]
    reconstruction = sum(squares) / len(squares)
    discriminator = task.players["discriminator"].network
    both = discriminator(
        torch.cat((given["target"], given["patch"])), given["tags"].repeat(2, 1)
    ).tolist()
    adversarial = -sum(both[4:]) / 4
    assert found["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-5)
    assert found["adversarial"].item() == pytest.approx(adversarial, rel=1e-4, abs=1e-6)
    assert found["loss"].item() == pytest.approx(
        0.99 * reconstruction + 0.01 * adversarial, rel=1e-5
    )


def test_the_loss_of_d_is_hinge_on_real_and_on_filled() -> None:
    task, given = pretext(**CE_DCM), batch()
    found = task.loss("discriminator", networks(task), given)
    discriminator = task.players["discriminator"].network
    scores = discriminator(
        torch.cat((given["target"], given["patch"])), given["tags"].repeat(2, 1)
    ).tolist()
    expected = (
        sum(max(0, 1 - d) for d in scores[:4]) / 4 + sum(max(0, 1 + d) for d in scores[4:]) / 4
    )
    assert found["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_each_turn_teaches_its_own_player_alone() -> None:
    task, given = pretext(**CE_DCM), batch()
    both = networks(task)
    task.loss("discriminator", both, given)["loss"].backward()
    assert all(p.grad is None for p in both["filler"].parameters())
    assert all(p.grad is not None for p in both["discriminator"].parameters())
    both["discriminator"].zero_grad(set_to_none=True)
    task.loss("filler", both, given)["loss"].backward()
    assert all(p.grad is not None for p in both["filler"].parameters())
    assert all(p.grad is None for p in both["discriminator"].parameters())
    assert all(p.requires_grad for p in both["discriminator"].parameters())


def test_the_adversary_reaches_the_encoder() -> None:
    task = pretext(**CE_DCM, reconstruction_weight=0.0)
    task.loss("filler", networks(task), batch())["loss"].backward()
    assert any(p.grad.abs().sum() > 0 for p in task.encoder.parameters())


def test_the_discriminator_judges_by_the_tags_only_where_the_recipe_says_so() -> None:
    for tags in (True, False):
        task = pretext(adversarial="hinge", tags=tags)
        other = batch()
        other["tags"] = other["tags"].flip(0)
        found = [task.loss("discriminator", networks(task), b)["loss"] for b in (batch(), other)]
        assert torch.equal(*found) is not tags
        assert task.targets == (("tags",) if tags else ())


def test_frames_without_tags_are_judged_without_them() -> None:
    task, given = pretext(**CE_DCM), batch()
    given["tags"] = torch.zeros_like(given["tags"])
    found = task.loss("discriminator", networks(task), given)["loss"]
    plain = task.players["discriminator"].network
    real, filled = plain(torch.cat((given["target"], given["patch"])), None).chunk(2)
    assert found.item() == pytest.approx(((1 - real).relu() + (1 + filled).relu()).mean().item())


def test_without_an_adversary_f_plays_alone() -> None:
    task = pretext(adversarial="none", tags=False, reconstruction_weight=1.0)
    assert list(task.players) == ["filler"]
    found = task.loss("filler", networks(task), batch())
    assert found["loss"].item() == found["reconstruction"].item()
    assert task.targets == ()


def test_the_tags_can_be_named_from_the_frame_with_its_hole() -> None:
    task, given = pretext(adversarial="none", tags=False, tag_weight=0.5), batch()
    found = task.loss("filler", networks(task), given)
    expected = 0.99 * found["reconstruction"] + 0.5 * found["tags"]
    assert found["loss"].item() == pytest.approx(expected.item())
    assert task.targets == ("tags",)
    assert task.measures == ("loss", "reconstruction", "tags", "tag_accuracy")


@pytest.mark.parametrize(
    "options",
    [
        CE_DCM,
        {"adversarial": "log", "tags": True},
        {"adversarial": "none", "tags": False, "tag_weight": 0.1},
    ],
)
def test_the_measures_are_one_row_a_frame_and_their_mean_is_the_loss(
    options: dict[str, bool | str | float],
) -> None:
    task = pretext(**options)
    both = networks(task, training=False)
    rows = task.measure(both, batch())
    assert rows.shape == (4, len(task.measures))
    loss = task.loss("filler", both, batch())["loss"]
    assert rows[:, 0].mean().item() == pytest.approx(loss.item(), rel=1e-5)


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"recipe test: options: weight: unknown key; known"):
        pretext(weight=1.0)

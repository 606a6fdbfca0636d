import math

import torch

from training import pretexts, recipes
from training.config import PretrainSettings
from training.tags import TAG_BITS


def test_a_few_steps_teach_a_network_the_tag_that_frames_show() -> None:
    torch.manual_seed(0)
    settings = PretrainSettings(
        strategy=recipes.load("dcm"), encoder="small", encoder_width=4, learning_rate=1e-2
    )
    task = pretexts.build(settings)
    network, optimizer = task.players["network"].network, task.players["network"].optimizer
    frames = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8)
    frames[::2, :, ::2] = 0  # lines across
    tags = torch.zeros(8, TAG_BITS)
    tags[::2, 0] = tags[1::2, 1] = 1
    batch = {"frames": frames, "tags": tags}
    first = task.loss("network", {"network": network}, batch)["loss"].item()
    for _ in range(30):
        loss = task.loss("network", {"network": network}, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < first
    assert task.encoder is network.encoder


def test_frames_without_tags_have_no_measure() -> None:
    task = pretexts.build(
        PretrainSettings(strategy=recipes.load("dcm"), encoder="small", encoder_width=4)
    )
    network = task.players["network"].network.eval()
    tags = torch.zeros(2, TAG_BITS)
    tags[0, 0] = 1
    frames = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    rows = task.measure({"network": network}, {"frames": frames, "tags": tags})
    assert rows.shape == (2, 2)
    assert rows[0].isfinite().all()
    assert all(math.isnan(value) for value in rows[1].tolist())

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightly", reason="pip install --group train")

from tests.support.clips import packed, settings
from training import pretexts
from training.contrast import nt_xent
from training.pretexts.simclr import SimClr


def test_two_views_of_a_frame_are_a_pair_and_all_other_frames_are_negatives(
    tmp_path: Path,
) -> None:
    known = packed(tmp_path, train=3, validation=2, frames=2)
    torch.manual_seed(0)
    task = pretexts.build(settings("simclr"))
    assert isinstance(task, SimClr)
    rows = known.select(split="train")
    how = {"seed": 0, "training": True, "rank": 0, "world": 1, "device": torch.device("cpu")}
    source = pretexts.batches(task, known, rows, batch_size=6, **how)
    [given] = source.epoch(1)
    assert given["frames"].shape == (12, 1, 64, 64)  # frames of one clip each for itself
    network = task.players["network"].network.eval()
    projected, logits = network(given["frames"])
    assert logits is None
    expected = nt_xent(projected[:6], projected[6:], 0.5, shared=False)
    assert torch.allclose(task.measure({"network": network}, given)[:, 0], expected)
    loss = task.loss("network", {"network": network}, given)["loss"]
    assert loss.item() == pytest.approx(expected.mean().item())
    assert task.encoder is network.encoder

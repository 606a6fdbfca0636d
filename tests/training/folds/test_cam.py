"""Pictures of what runs looked at, on a run of a table over folds."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dicom_node.errors import StoreError
from tests.support.folds import table
from training import cam
from training.config import Engine
from training.engine import launch
from training.folds.finetuning import finetune
from training.folds.frames import FoldedFrames
from training.folds.splitting import split


class _LooksLeft(nn.Module):
    """Class 1 is what is bright on the left; class 0 is never anything's."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Left()

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(nn.functional.avg_pool2d(frames, 8) * self.head.weight)  # type: ignore[no-any-return]


class _Left(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        left = features[:, 0, :, : features.shape[3] // 2].mean(dim=(1, 2))
        return torch.stack((0 * left, left), dim=1)


def test_the_map_is_where_what_speaks_for_the_class_is() -> None:
    frames = torch.zeros(1, 1, 32, 32)
    frames[..., 8:16, 8:16] = 200
    found = cam.heat(_LooksLeft(), frames, torch.tensor([1]))
    assert found.shape == (1, 32, 32)
    assert found.max() == 1
    assert found[0, 12, 12] > 0.9
    assert found[0, :, 24:].max() == 0
    # nothing speaks for the other class
    assert cam.heat(_LooksLeft(), frames, torch.tensor([0])).max() == 0


@pytest.fixture(scope="module")
def run(folded: FoldedFrames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cam") / "run"
    pack = split(folded, 0, validation=0.25, seed=0, most_frames=None)
    fabric = launch(Engine(accelerator="cpu", precision="32-true"))
    finetune(table().finetuning("last", 0), pack, fabric, run=folder)
    return folder


def test_a_picture_has_a_line_a_frame_and_a_column_a_run(run: Path, folded: FoldedFrames) -> None:
    rows = cam.tested(run, folded.pack, 4)
    assert len(rows) == 4
    assert (folded.folds[rows] == 0).all()
    assert set(folded.pack.rows.class_index[rows].tolist()) >= {0, 1}
    seen = cam.look(run, folded.pack, rows)
    assert seen.maps.shape == (4, 64, 64)
    assert np.isfinite(seen.maps).all()
    names = next(iter(folded.pack.class_sets.values()))
    truth = [names[place] for place in folded.pack.rows.class_index[rows]]
    drawn = cam.picture(folded.pack.frames[rows], {"a": seen, "b": seen}, truth, names)
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.format == "PNG"
        assert picture.height > picture.width


def test_a_run_that_was_tested_on_other_frames_is_refused(
    run: Path, folded: FoldedFrames, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="no test frames here"):
        cam.tested(tmp_path, folded.pack, 4)
    with np.load(run / "scores.npz") as found:
        np.savez(tmp_path / "scores.npz", **(dict(found) | {"frame_id": np.array(["other"])}))
    with pytest.raises(StoreError, match="was tested on other frames"):
        cam.tested(tmp_path, folded.pack, 4)

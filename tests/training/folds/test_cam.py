"""Pictures of what runs looked at, on a run of a table over folds."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dicom_node.errors import ConfigError, StoreError
from models import encoders
from tests.support.folds import table
from training import cam, runs
from training.cam import Spoken
from training.config import Engine, Size
from training.engine import launch
from training.folds.finetuning import finetune
from training.folds.frames import FoldedFrames
from training.folds.splitting import split


class _LooksLeft(nn.Module):
    """Class 1 is what is bright on the left; class 0 is never anything's."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        #: is added to both logits for each bit of light on the left
        self.common = 0.0

    def forward(self, frames: Tensor) -> Tensor:
        left = self.pool(frames)[:, 0, :, :2].mean(dim=(1, 2))
        return torch.stack((self.common * left, (1 + self.common) * left), dim=1)


def test_the_map_is_where_what_speaks_for_the_class_is() -> None:
    frames = torch.zeros(1, 1, 32, 32)
    frames[..., 8:16, 8:16] = 200
    network = _LooksLeft()
    found = cam.heat(network, network.pool, frames, torch.tensor([1]))
    assert found.shape == (1, 32, 32)
    assert found.max() == 1
    assert found[0, 12, 12] > 0.9
    assert found[0, :, 24:].max() == 0
    # nothing speaks for the other class
    assert cam.heat(network, network.pool, frames, torch.tensor([0])).max() == 0


@pytest.mark.parametrize("common", [-3.0, 3.0])
def test_what_is_added_to_all_logits_speaks_for_no_class(common: float) -> None:
    frames = torch.zeros(1, 1, 32, 32)
    frames[..., 8:16, 8:16] = 200
    network = _LooksLeft()
    plain = cam.heat(network, network.pool, frames, torch.tensor([1]))
    network.common = common
    assert torch.allclose(cam.heat(network, network.pool, frames, torch.tensor([1])), plain)
    assert cam.heat(network, network.pool, frames, torch.tensor([0])).max() == 0


@pytest.mark.parametrize(("side", "stride"), [(224, 32), (256, 32), (128, 16), (64, 8), (8, 2)])
def test_a_map_has_seven_cells_a_side_where_features_have(side: int, stride: int) -> None:
    size = Size.model_construct(height=side, width=2 * side)
    assert cam.stride_for(encoders.build("small", width=2), size) == stride


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
    said = cam.look(run, folded.pack, rows, spoken=Spoken.SAID, stride=32)
    is_right = said.predicted == folded.pack.rows.class_index[rows]
    true = cam.look(run, folded.pack, rows, stride=32)
    assert np.array_equal(said.maps[is_right], true.maps[is_right])
    assert not np.array_equal(said.maps, true.maps)
    names = next(iter(folded.pack.class_sets.values()))
    truth = [names[place] for place in folded.pack.rows.class_index[rows]]
    drawn = cam.picture(folded.pack.frames[rows], {"a": seen, "b": seen}, truth, names)
    with Image.open(io.BytesIO(drawn)) as picture:
        assert picture.format == "PNG"
        assert picture.height > picture.width


def test_a_stride_that_no_features_have_is_refused_with_those_that_there_are(
    run: Path, folded: FoldedFrames
) -> None:
    rows = cam.tested(run, folded.pack, 1)
    with pytest.raises(ConfigError, match=r"--stride 5: .* have 2, 4, 8, 16, 32; take one"):
        cam.look(run, folded.pack, rows, stride=5)


def test_a_run_on_frames_of_another_size_is_refused(
    run: Path, folded: FoldedFrames, tmp_path: Path
) -> None:
    info = runs.read(run)
    larger = info.settings.model_copy(update={"size": Size(height=96, width=64)})
    runs.write(tmp_path, info.model_copy(update={"settings": larger}))
    rows = cam.tested(run, folded.pack, 1)
    with pytest.raises(ConfigError, match=r"learned from frames of .*96.* draw runs of one size"):
        cam.look(tmp_path, folded.pack, rows)


def test_a_run_that_was_tested_on_other_frames_is_refused(
    run: Path, folded: FoldedFrames, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="no test frames here"):
        cam.tested(tmp_path, folded.pack, 4)
    with np.load(run / "scores.npz") as found:
        np.savez(tmp_path / "scores.npz", **(dict(found) | {"frame_id": np.array(["other"])}))
    with pytest.raises(StoreError, match="was tested on other frames"):
        cam.tested(tmp_path, folded.pack, 4)

from pathlib import Path

import numpy as np
import pytest

from training.volumes.scores import Scores, write_scores
from training.volumes.tables import SERIES, dice_by_label, report, run_name, segmentation, wanted

MEASURES = ("loss", "dice_1", "dice_2")
#: The second label is in one volume, and not found there.
ROWS = np.array([[0.4, 0.8, 0.0], [0.3, 0.6, np.nan]], np.float32)


def _write(run: Path, rows: np.ndarray) -> None:
    run.mkdir()
    scores = Scores(measures=MEASURES, rows=rows, patients=("P1", "P2"), targets=None, answers=None)
    write_scores(run, scores)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / SERIES, ROWS)
    for name in wanted():
        _write(tmp_path / name, ROWS)
    return tmp_path


def test_each_label_has_its_own_mean(folder: Path) -> None:
    run = folder / run_name("from scratch", 1.0)
    assert dice_by_label(run) == pytest.approx({1: 0.7, 2: 0.0})
    iou, median = segmentation(run)
    assert (iou, median) == pytest.approx(((0.8 / 1.2 + 0.6 / 1.4) / 3, 0.6))


def test_a_label_that_no_network_finds_is_seen_in_the_report(folder: Path) -> None:
    text = report(folder, "Phantoms.")
    assert "| kept | mean IoU | median Dice | Dice of 1 | Dice of 2 |" in text
    assert "| all frozen | 36.5 | 60.0 | 70.0 | 0.0 |" in text


def test_a_label_that_was_in_no_test_volume_has_no_mean(tmp_path: Path) -> None:
    _write(tmp_path / "run", np.full((2, 3), np.nan, np.float32))
    assert all(map(np.isnan, dice_by_label(tmp_path / "run").values()))

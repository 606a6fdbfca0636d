from pathlib import Path

import numpy as np
import pytest

from tests.support.slices import new_volume
from tests.support.volumes import TINY
from training import runs
from training.runs import RunInfo
from training.volumes.scores import Scores, by_label, write_scores
from training.volumes.tables import SERIES, report, wanted
from training.volumes.targets import HEADS, rows_of

NAN = np.nan


def of_masks(*lesions: float) -> Scores:
    livers = [0.88, 0.90, 0.89, 0.91]
    rows = [(0.5, liver, lesion) for liver, lesion in zip(livers, lesions, strict=True)]
    return Scores(
        measures=("loss", "dice_1", "dice_2"),
        rows=np.array(rows, np.float32),
        patients=("a", "b", "c", "c"),
        targets=None,
        answers=None,
    )


def of_series() -> Scores:
    return Scores(
        measures=("loss",),
        rows=np.zeros((1, 1), np.float32),
        patients=("d",),
        targets=rows_of([new_volume().labels]),
        answers=np.zeros((1, sum(HEADS.values())), np.float32),
    )


@pytest.mark.parametrize("lesions", [(0, 0, 0, 0), (0, NAN, 0, 0), (NAN,) * 4, (1, 1, 1, 1)])
def test_what_is_found_of_one_label_does_not_move_the_others(lesions: tuple[float, ...]) -> None:
    liver, lesion = by_label(of_masks(*lesions))
    assert (liver.name, lesion.name) == ("label 1", "label 2")
    assert liver.dice == pytest.approx(0.895)
    assert liver.iou == pytest.approx(np.mean([0.88 / 1.12, 0.9 / 1.1, 0.89 / 1.11, 0.91 / 1.09]))
    said = [value for value in lesions if np.isfinite(value)]
    assert lesion.dice == pytest.approx(said[0] if said else NAN, nan_ok=True)


def test_the_report_has_each_label_apart_and_says_how_many_volumes_are_tested(
    tmp_path: Path,
) -> None:
    for name in (SERIES, *wanted()):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name, of_masks(0, 0, NAN, 0))
    write_scores(tmp_path / SERIES, of_series())
    info = RunInfo(kind="series", settings=TINY, store_version="a1b2")
    runs.write(tmp_path / SERIES, info.finished())
    page = report(tmp_path, "Of nobody.")
    assert "1 test volumes of 1 patients, volumes of version a1b2." in page
    assert "4 test volumes of 3 patients." in page
    assert "| kept | label 1, IoU | label 1, Dice | label 2, IoU | label 2, Dice |" in page
    assert "| all frozen | 81.0 | 89.5 | 0.0 | 0.0 |" in page
    for label in (1, 2):
        assert f"## Segmentation of label {label}, mean IoU by share" in page
    assert "| from scratch | 81.0 | 81.0 | 81.0 | 81.0 | 81.0 |" in page

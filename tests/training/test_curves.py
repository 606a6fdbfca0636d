import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from dicom_node.errors import StoreError
from training import curves
from training.curves import EPOCHS, TENSORBOARD, Point


def epoch(number: int, *, dice: float = 0.5) -> Point:
    return Point(
        number=number,
        training={"network/loss": 1 / number},
        validation={"loss": 2 / number, "dice_liver": dice},
        learning_rate=1e-4,
        frames_per_s=100.0,
    )


def record(run: Path, *epochs: Point) -> None:
    with curves.recording(run) as tell:
        for each in epochs:
            tell(each)


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / TENSORBOARD)).Reload()
    return [
        (int(found.step), float(make_ndarray(found.tensor_proto))) for found in events.Tensors(tag)
    ]


def test_epochs_are_read_back(tmp_path: Path) -> None:
    record(tmp_path, epoch(1), epoch(2))
    assert curves.read(tmp_path) == [epoch(1), epoch(2)]


def test_a_measure_that_no_frame_gave_comes_back_as_nan(tmp_path: Path) -> None:
    record(tmp_path, epoch(1, dice=math.nan))
    assert "NaN" not in (tmp_path / EPOCHS).read_text()
    assert math.isnan(curves.read(tmp_path)[0].validation["dice_liver"])


def test_tensorboard_shows_each_epoch_once_though_the_run_was_killed(tmp_path: Path) -> None:
    record(tmp_path, epoch(1), epoch(2))
    record(tmp_path, epoch(1), epoch(2), epoch(3))
    assert scalars(tmp_path, "validation/loss") == [
        (1, 2.0),
        (2, 1.0),
        (3, pytest.approx(2 / 3)),
    ]
    assert [point.number for point in curves.read(tmp_path)] == [1, 2, 3]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    record(tmp_path, epoch(1), epoch(2))
    whole = (tmp_path / EPOCHS).read_text()
    (tmp_path / EPOCHS).write_text(whole[:-10])
    assert curves.read(tmp_path) == [epoch(1)]


def test_curves_of_a_finished_run_are_kept_when_no_epoch_is_told(tmp_path: Path) -> None:
    record(tmp_path, epoch(1))
    record(tmp_path)
    assert curves.read(tmp_path) == [epoch(1)]


def test_a_folder_without_curves_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="name the folder of a run"):
        curves.read(tmp_path)

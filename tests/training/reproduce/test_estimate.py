import pytest

from tests.support.matrices import tiny
from training.reproduce.estimate import Clock, duration
from training.reproduce.matrix import Speed


def clock(*, speed: Speed | None = None) -> tuple[Clock, dict[str, int]]:
    layout = tiny(shares=[0.05, 1.0])
    images = {cell.name: 100 for cell in layout.cells}
    return Clock(images, speed), images


def test_nothing_measured_is_nothing_known() -> None:
    layout = tiny()
    assert clock()[0].total(layout.cells) is None


def test_before_the_first_cell_the_matrix_speed_counts() -> None:
    layout = tiny()
    speed = Speed(pretrain=50, finetune=10, machine="a machine")
    assert clock(speed=speed)[0].total(layout.pretrain) == pytest.approx(2)


def test_cells_of_one_share_say_more_than_those_of_another() -> None:
    layout = tiny(shares=[0.05, 1.0])
    known, _ = clock()
    small, large = layout.finetune[0], layout.finetune[2]
    known.finished(small, 7.0)
    assert known.seconds(large) == pytest.approx(7)
    known.finished(large, 3.0)
    assert known.seconds(layout.finetune[3]) == pytest.approx(3)
    assert known.seconds(layout.finetune[1]) == pytest.approx(7)


def test_a_cell_that_is_left_out_takes_no_time() -> None:
    layout = tiny()
    known, _ = clock()
    known.finished(layout.finetune[0], 5.0)
    known.leave_out(layout.finetune[1])
    assert known.seconds(layout.finetune[1]) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.6, "4 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (59.6, "1 min 0 s")]
)
def test_durations_are_said_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said

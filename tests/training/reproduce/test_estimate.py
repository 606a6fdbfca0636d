import pytest

from tests.support.matrices import tiny
from training.pack import Pack
from training.reproduce.estimate import Clock, Load, duration, loads
from training.reproduce.matrix import Speed


def clock(*, speed: Speed | None = None) -> Clock:
    layout = tiny(shares=[0.05, 1.0])
    load = Load(epochs=2, training=40, validation=30)
    return Clock({cell.name: load for cell in layout.cells}, speed)


def test_nothing_measured_is_nothing_known() -> None:
    layout = tiny()
    assert clock().total(layout.cells) is None


def test_before_the_first_cell_the_matrix_speed_counts() -> None:
    layout = tiny()
    speed = Speed(pretrain=50, finetune=10, machine="a machine")
    assert clock(speed=speed).total(layout.pretrain) == pytest.approx(2)


def test_cells_of_one_share_say_more_than_those_of_another() -> None:
    layout = tiny(shares=[0.05, 1.0])
    known = clock()
    small, large = layout.finetune[0], layout.finetune[2]
    known.finished(small, 7.0)
    assert known.seconds(large) == pytest.approx(7)
    known.finished(large, 3.0)
    assert known.seconds(layout.finetune[3]) == pytest.approx(3)
    assert known.seconds(layout.finetune[1]) == pytest.approx(7)


def test_a_load_counts_the_share_of_a_task_and_all_frames_of_a_pretraining(
    phantoms: Pack,
) -> None:
    layout = tiny(shares=[0.25, 1.0])
    found = loads(layout, phantoms)
    train, validation = (len(phantoms.select(split=s)) for s in ("train", "validation"))
    assert found[layout.pretrain[0].name] == Load(epochs=1, training=train, validation=validation)
    quarter, whole = (found[layout.finetune[n].name].training for n in (0, 2))
    assert 0 < quarter < whole <= train


def test_a_cell_that_is_left_out_takes_no_time() -> None:
    layout = tiny()
    known = clock()
    known.finished(layout.finetune[0], 5.0)
    known.leave_out(layout.finetune[1])
    assert known.seconds(layout.finetune[1]) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.6, "4 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (59.6, "1 min 0 s")]
)
def test_durations_are_said_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said

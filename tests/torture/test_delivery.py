import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.outbox import DeliveryState
from tests.support.faults import DELIVERY_POINTS, Point, resolve
from tests.torture.delivery import summary, torture_delivery
from tests.torture.killing import Tally
from tests.torture.schedule import PointKill, every_stop, schedule

KILLS = 10


@pytest.mark.parametrize("point", DELIVERY_POINTS, ids=lambda point: point.name)
def test_every_point_of_delivery_is_in_the_code(point: Point) -> None:
    assert callable(resolve(point))


def test_the_long_form_kills_at_every_side_of_every_point_of_delivery() -> None:
    planned = schedule(50, random.Random(0), DELIVERY_POINTS)
    stops = {(kill.point, kill.moment) for kill in planned if isinstance(kill, PointKill)}
    assert stops == set(every_stop(DELIVERY_POINTS))


@pytest.mark.slow
@pytest.mark.dimse
@pytest.mark.timeout(600)
# pynetdicom 3.0.4 leaves sockets that were cut to the garbage collector
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_each_object_is_at_the_destination_once_or_a_dead_letter_with_a_reason(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    told: list[str] = []

    def tell(number: int, tally: Tally) -> None:
        told.append(f"{number}: {tally.last}")

    outcome = torture_delivery(KILLS, 0, tmp_path / "node", free_port, tell=tell)
    assert not outcome.faults, (outcome.faults, told)
    assert outcome.tally.kills >= KILLS, told
    assert outcome.states[DeliveryState.DELIVERED] > outcome.states[DeliveryState.DEAD] > 0
    assert outcome.stored.restarts, summary(outcome)

"""Which kills, in which order: all of it follows from the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.faults import MOMENTS, POINTS, RECEIVER, SUPERVISOR, WORKER, Point

GROUP: Final = "group"
#: What is killed at a random moment, as often as it stands here.
TARGETS: Final = (RECEIVER, RECEIVER, WORKER, WORKER, SUPERVISOR, GROUP)
#: the longest wait before a kill at a random moment
_LONGEST_WAIT_S: Final = 1.5
_MOST_ARRIVALS: Final = 3


@dataclass(frozen=True, kw_only=True)
class RandomKill:
    """A kill at a random moment."""

    target: str
    after_s: float


@dataclass(frozen=True, kw_only=True)
class PointKill:
    """A kill between two steps."""

    point: Point
    moment: str
    arrival: int
    is_group: bool

    @property
    def name(self) -> str:
        """The point and the side of it."""
        return name_of(self.point, self.moment)


def name_of(point: Point, moment: str) -> str:
    """Return the name of one side of a point."""
    return f"{moment} {point.name}"


def every_stop(points: Sequence[Point] = POINTS) -> list[tuple[Point, str]]:
    """Return each point with each of its two sides."""
    return [(point, moment) for point in points for moment in MOMENTS]


def schedule(
    kills: int, rng: random.Random, points: Sequence[Point] = POINTS
) -> list[RandomKill | PointKill]:
    """Plan `kills` kills, half of them at points; from twice the points on, each at least once."""
    stops: list[tuple[Point, str]] = []
    while len(stops) < (kills + 1) // 2:
        lap = every_stop(points)
        rng.shuffle(lap)
        stops += lap
    planned: list[RandomKill | PointKill] = [
        _point_kill(point, moment, rng) for point, moment in stops[: (kills + 1) // 2]
    ]
    planned += [
        RandomKill(target=rng.choice(TARGETS), after_s=rng.uniform(0, _LONGEST_WAIT_S))
        for _ in range(kills - len(planned))
    ]
    rng.shuffle(planned)
    return planned


def _point_kill(point: Point, moment: str, rng: random.Random) -> PointKill:
    return PointKill(
        point=point,
        moment=moment,
        arrival=1 if point.at_start else rng.randint(1, _MOST_ARRIVALS),
        is_group=rng.random() < 0.3,
    )

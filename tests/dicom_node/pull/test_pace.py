from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest

from dicom_node.archives import PaceSettings
from dicom_node.pull.pace import Clock, Pace

ZONE = timezone(timedelta(hours=2))


@dataclass
class HandClock:
    """Time that passes only when somebody sleeps."""

    moment: datetime
    slept_s: float = 0.0
    told: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept_s += seconds
        self.moment += timedelta(seconds=seconds)

    def seconds(self) -> float:
        return self.moment.timestamp()

    def pace(self, **settings: object) -> Pace:
        clock = Clock(now=lambda: self.moment, monotonic_s=self.seconds, sleep=self.sleep)
        return Pace(PaceSettings.model_validate(settings), clock, tell=self.told.append)


def at(clock: str) -> HandClock:
    return HandClock(datetime.fromisoformat(f"2026-03-04T{clock}").replace(tzinfo=ZONE))


@pytest.mark.parametrize(
    ("window", "clock", "waits_s"),
    [
        ("22:00-06:00", "21:59:30", 30),
        ("22:00-06:00", "22:00:00", 0),
        ("22:00-06:00", "23:59:59", 0),
        ("22:00-06:00", "00:00:00", 0),
        ("22:00-06:00", "05:59:59", 0),
        ("22:00-06:00", "06:00:00", 16 * 3600),
        ("12:00-13:30", "11:00:00", 3600),
        ("12:00-13:30", "13:29:59", 0),
        ("12:00-13:30", "13:30:00", 22.5 * 3600),
        ("00:00-06:00", "23:00:00", 3600),
    ],
)
def test_a_window_is_waited_for_across_midnight_too(
    window: str, clock: str, waits_s: float
) -> None:
    hand = at(clock)
    hand.pace(window=window).wait()
    assert hand.slept_s == pytest.approx(waits_s)
    assert hand.told == ([f"waits for the window {window}", ""] if waits_s else [])


def test_studies_come_no_faster_than_the_rate() -> None:
    hand = at("12:00:00")
    pace = hand.pace(studies_per_minute=6)
    for _ in range(4):
        pace.wait()
        pace.spent(studies=1, instances=100)
    assert hand.slept_s == pytest.approx(30), "three pauses of ten seconds"


def test_the_time_that_a_study_took_counts() -> None:
    hand = at("12:00:00")
    pace = hand.pace(studies_per_minute=6)
    pace.wait()
    hand.moment += timedelta(seconds=8)
    pace.spent(studies=1, instances=1)
    pace.wait()
    assert hand.slept_s == pytest.approx(2)


def test_the_stricter_of_two_rates_holds() -> None:
    hand = at("12:00:00")
    pace = hand.pace(studies_per_minute=60, instances_per_minute=600)
    pace.wait()
    pace.spent(studies=1, instances=300)
    pace.wait()
    assert hand.slept_s == pytest.approx(30)


def test_what_was_not_asked_for_costs_no_time() -> None:
    hand = at("12:00:00")
    pace = hand.pace(studies_per_minute=1)
    for _ in range(5):
        pace.wait()
    assert hand.slept_s == 0


def test_no_pause_is_saved_up_for_later() -> None:
    hand = at("12:00:00")
    pace = hand.pace(studies_per_minute=6)
    hand.moment += timedelta(hours=1)
    for _ in range(2):
        pace.wait()
        pace.spent(studies=1, instances=1)
    assert hand.slept_s == pytest.approx(10)


def test_an_archive_that_is_left_alone_is_said() -> None:
    hand = at("12:00:00")
    hand.pace().pause(30, "it is down")
    assert (hand.slept_s, hand.told) == (30, ["it is down", ""])

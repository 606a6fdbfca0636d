import time

import pytest

from dicom_node.web import Health, Look, Watch
from dicom_node.web.health import FRESH_S


def examine(looks: list[Look]) -> Health:
    return Watch(looks).health()


def test_one_fault_is_enough_and_says_its_cure() -> None:
    health = examine(
        [
            Look(name="disk", fault=lambda: "", cure="free space"),
            Look(name="port", fault=lambda: "nobody answers", cure="restart"),
        ]
    )
    assert not health.healthy
    assert health.as_dict() == {
        "healthy": False,
        "checks": [
            {"name": "disk", "healthy": True, "fault": "", "cure": ""},
            {"name": "port", "healthy": False, "fault": "nobody answers", "cure": "restart"},
        ],
    }


def test_a_look_that_the_system_breaks_off_is_a_fault_and_stops_no_other() -> None:
    def broken() -> str:
        raise PermissionError(13, "Permission denied")

    health = examine(
        [
            Look(name="inbox", fault=broken, cure="give the folder back"),
            Look(name="disk", fault=lambda: "", cure="free space"),
        ]
    )
    assert [check.healthy for check in health.checks] == [False, True]
    assert "Permission denied" in health.checks[0].fault


def test_a_flood_of_questions_is_no_flood_of_looks() -> None:
    taken: list[int] = []

    def counted() -> str:
        taken.append(1)
        return ""

    watch = Watch([Look(name="port", fault=counted, cure="")])
    began = time.monotonic()
    for _ in range(100):
        watch.health()
    assert len(taken) <= 1 + (time.monotonic() - began) / FRESH_S


@pytest.mark.slow
def test_a_good_answer_holds_longer_than_a_bad_one() -> None:
    answers = iter(["", "nobody answers", "nobody answers", ""])
    watch = Watch([Look(name="port", fault=lambda: next(answers), cure="", fresh_s=1.5 * FRESH_S)])
    began = time.monotonic()
    seen = [watch.health().healthy]
    while len(seen) < 3:
        if watch.health().healthy is not seen[-1]:
            seen.append(not seen[-1])
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    assert seen == [True, False, True]
    assert time.monotonic() - began > 3 * FRESH_S

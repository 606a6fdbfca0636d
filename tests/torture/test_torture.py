import random
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the train group: make test installs it")
from tests.torture.harness import Plan, torture
from tests.torture.killing import Tally
from tests.torture.report import rows
from tests.torture.schedule import PointKill, every_stop, schedule
from tests.torture.studies import study

KILLS = 12


def test_the_long_form_kills_at_every_side_of_every_point() -> None:
    planned = schedule(200, random.Random(0))
    assert len(planned) == 200
    stops = {(kill.point, kill.moment) for kill in planned if isinstance(kill, PointKill)}
    assert stops == set(every_stop())


def test_one_seed_gives_one_schedule_and_one_stream_of_studies() -> None:
    assert schedule(20, random.Random(1)) == schedule(20, random.Random(1))
    assert schedule(20, random.Random(1)) != schedule(20, random.Random(2))
    assert study(1, 2) == study(1, 2)
    assert {image.sha256 for image in study(1, 2)}.isdisjoint(i.sha256 for i in study(2, 2))


@pytest.mark.slow
@pytest.mark.dimse
@pytest.mark.timeout(400)
def test_what_was_acknowledged_survives_kills_and_has_one_result_of_each_kind(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    lines: list[str] = []

    def tell(number: int, tally: Tally) -> None:
        lines.append(f"{number}: {tally.last}")

    outcome = torture(Plan(kills=KILLS, seed=0), tmp_path / "node", free_port, tell=tell)
    unmet = [row for row in rows(outcome, kills=KILLS) if row.met is False]
    assert not unmet, (unmet, outcome.faults, outcome.tally, lines)
    assert outcome.ledger.acknowledged
    assert outcome.tally.points.total() >= KILLS // 2

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install --group train")

from tests.benchmarks import serve
from tests.benchmarks.long_cine import Made
from tests.benchmarks.serving import Spent
from tests.benchmarks.streaming import Memory, Stream

SMALL = ["--encoder", "small", "--height", "64", "--width", "96", "--frames", "3", "--rounds", "1"]


def spent(bare_s: float, analyse_s: float) -> Spent:
    return Spent(bare_s=bare_s, analyse_s=analyse_s, write_s=0.5, send_s=0.25)


def test_what_the_node_adds_is_held_against_the_model_alone() -> None:
    rows = [*serve.overhead_rows([spent(10, 10.25), spent(10, 10.25), spent(10, 30)], (4,))]
    assert (rows[0].value, rows[0].met) == (pytest.approx(10), True)
    assert rows[1].row == f"a cine of 4 frames | {serve.BARE} | time a frame"
    assert rows[1].value == pytest.approx(2500)
    [slow, *_] = serve.overhead_rows([spent(10, 12)], (1,))
    assert (slow.value, slow.met) == (pytest.approx(27.5), False)
    assert slow.ratio == pytest.approx(1.15 / 1.275)


@pytest.mark.parametrize(("last", "met"), [(104, True), (110, False)])
def test_memory_that_grows_misses_its_goal(last: int, met: bool) -> None:
    memory = Memory(worker_rss_bytes={100: 100 << 20, 500: 200 << 20, 1000: last << 20})
    *marks, held = serve.memory_rows(memory)
    assert [row.value for row in marks] == [100, 200, last]
    assert (held.value, held.met) == (last, met)


def test_the_time_into_the_pacs_is_told_at_two_places() -> None:
    stream = Stream(waited_s=tuple(range(101)), burst=10, most_per_s=3.5)
    assert [row.value for row in serve.rate_rows(stream)] == [50, 95, 3.5]


@pytest.mark.parametrize(("made_s", "met"), [(0.4, True), (0.6, False)])
def test_a_long_cine_that_takes_too_long_misses_its_goal(made_s: float, met: bool) -> None:
    made = Made(made_s=made_s, checked_s=0.2, size_bytes=20 << 20)
    held, checked = serve.long_rows([made])
    assert (held.value, held.met) == (made_s, met)
    assert checked.value == 0.2


@pytest.mark.slow
def test_a_quick_run_makes_the_seg_of_a_long_cine(tmp_path: Path) -> None:
    serve.main(["--quick", "--only", "long", "--rounds", "1", "--folder", str(tmp_path)])
    held, checked = json.loads((tmp_path / "serve.json").read_text())
    assert held["met"] is (held["value"] <= 0.5)
    assert min(held["value"], checked["value"]) > 0.01


@pytest.mark.slow
@pytest.mark.torch
def test_a_quick_run_serves_a_network_and_tells_where_its_time_goes(tmp_path: Path) -> None:
    serve.main(["--quick", "--only", "overhead", *SMALL, "--folder", str(tmp_path)])
    rows = json.loads((tmp_path / "serve.json").read_text())
    held = {row["row"]: row for row in rows if row["goal"]}
    assert [name.rpartition(", ")[2] for name in held] == [
        "a cine of 3 frames",
        "a study of 10 stills",
        "a still",
    ]
    assert all(row["met"] is (row["value"] <= 15) for row in held.values())
    times = [row["value"] for row in rows if row["unit"] == "ms"]
    assert len(times) == 12
    assert min(times) > 0


@pytest.mark.slow
@pytest.mark.dimse
def test_a_quick_run_watches_the_memory_of_a_nodes_worker(tmp_path: Path) -> None:
    serve.main(["--quick", "--only", "memory", "--marks", "1", "3", "--folder", str(tmp_path)])
    *marks, held = json.loads((tmp_path / "serve.json").read_text())
    assert [row["row"] for row in marks] == [
        "memory of the worker | after 1 studies | resident",
        "memory of the worker | after 3 studies | resident",
    ]
    assert min(row["value"] for row in marks) > 10
    assert held["met"] is (marks[1]["value"] <= 1.05 * marks[0]["value"])


@pytest.mark.slow
@pytest.mark.dimse
def test_a_quick_run_tells_the_time_into_the_pacs_and_the_highest_rate(tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "rate", "--seconds", "2", "--burst", "2"]
    serve.main([*arguments, "--folder", str(tmp_path)])
    half, most, rate = json.loads((tmp_path / "serve.json").read_text())
    assert 0 < half["value"] <= most["value"]
    assert rate["value"] > 0

import json
from pathlib import Path

import pytest

from tests.benchmarks import docs, ingest
from tests.benchmarks.loads import (
    LOADS,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Load,
)
from tests.benchmarks.measure import Measurement
from tests.benchmarks.receivers import receivers
from tests.benchmarks.rows import rows

KEYS = {"row", "value", "unit", "against", "ratio", "goal", "met"}


@pytest.mark.parametrize("load", LOADS[:-1], ids=lambda load: load.name)
def test_a_data_set_has_the_size_and_one_place_for_each_uid(load: Load) -> None:
    data_set = load.data_set()
    assert len(data_set) == load.size_bytes
    for uid in (SOP_INSTANCE_UID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID):
        assert data_set.count(uid.encode()) == 1


def _measured(objects: int, *, kept: int) -> Measurement:
    return Measurement(
        objects=objects,
        acknowledged=objects,
        kept=kept,
        kept_bytes=kept,
        seconds=1.0,
        sync_s=1.0,
        cpu_s=1.0,
        sender_cpu_s=0.1,
        peak_bytes={"receiver": 100_000_000},
        faults=(),
    )


def test_a_receiver_that_lost_an_acknowledged_object_is_named() -> None:
    compared = [one for one in receivers(None) if one.name in ("node", "storescp")]
    results = {
        ("still-4", "node"): [_measured(300, kept=300)],
        ("still-4", "storescp"): [_measured(200, kept=199)],
    }
    made = rows(results, LOADS, compared)
    kept = next(row for row in made if "acknowledged" in row.row)
    assert kept.met is False
    assert kept.why == "missing in storescp (still-4)"


def test_a_ratio_is_the_median_of_the_rounds_and_meets_its_goal_or_not() -> None:
    compared = [one for one in receivers(None) if one.name in ("node", "storescp")]
    results = {
        ("still-4", "node"): [_measured(count, kept=count) for count in (100, 300, 150)],
        ("still-4", "storescp"): [_measured(count, kept=count) for count in (200, 200, 200)],
    }
    made = rows(results, LOADS, compared)
    held = next(row for row in made if row.goal == 1.0 and row.unit == "objects/s")
    assert (held.ratio, held.low, held.high, held.met) == (0.75, 0.5, 1.5, False)


def test_what_was_not_measured_is_null_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.receivers._PROGRAMS", "/nowhere")
    compared = receivers(None)
    made = rows({}, LOADS, compared)
    assert {row.value for row in made} == {None}
    missing = next(row for row in made if row.row.endswith("| Orthanc | rate"))
    assert missing.why == "Orthanc is missing: apt-get install orthanc"


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "ingest.json").write_text(
        json.dumps(
            [
                {
                    "row": "stills: node",
                    "value": 3.0,
                    "unit": "objects/s",
                    "against": "a peer",
                    "ratio": 0.5,
                    "goal": 1.0,
                    "met": False,
                },
                {"row": "stills | node | rate", "value": 3.0, "unit": "objects/s"},
            ]
        )
    )
    page = tmp_path / "performance.md"
    page.write_text(f"old\n{docs.BEGIN}\nby hand\n{docs.END}\nold numbers\n")
    for _ in range(2):
        assert docs.main(["--folder", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.count("by hand\n") == 1
    assert "old" not in text
    assert "- stills: node against a peer: 0.50 where 1 is the goal" in text
    assert "| node | 3 |" in text


@pytest.mark.slow
@pytest.mark.dimse
@pytest.mark.peers
@pytest.mark.timeout(300)
def test_a_quick_run_finds_every_acknowledged_object_again(tmp_path: Path) -> None:
    arguments = ["--quick", "--objects", "40", "--folder", str(tmp_path)]
    only = ["still-1", "small-4", "node", "node-receivers", "storescp", "orthanc", "pynetdicom"]
    ingest.main([*arguments, "--only", *only, "limit"])
    found = json.loads((tmp_path / "ingest.json").read_text())
    assert all(set(row) >= KEYS for row in found)
    assert all(row["value"] is not None or row["why"] for row in found)
    for row in found:
        if row["against"] and row["ratio"] is not None and row["goal"] is not None:
            assert row["met"] == (row["ratio"] >= row["goal"])
    kept = next(row for row in found if "acknowledged" in row["row"])
    assert kept["met"], kept["why"]
    assert kept["value"] > 200
    node = next(row for row in found if row["row"].endswith("| dicom-node | rate"))
    assert node["value"] > 0
    assert node["why"] is None
    assert not (tmp_path / "run").exists()
    assert "ingest" in json.loads((tmp_path / "ingest.about").read_text())["command"]

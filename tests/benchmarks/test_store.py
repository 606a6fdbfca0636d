import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install --group train")

from dicom_node.store import WeakLabelStore, audit
from dicom_node.store.audit import LOST
from tests.benchmarks import store, store_million
from tests.support import s3


@pytest.mark.slow
@pytest.mark.torch
def test_a_quick_run_measures_every_arm(tmp_path: Path) -> None:
    store.main(["--quick", "--folder", str(tmp_path)])
    rows = json.loads((tmp_path / "store.json").read_text())
    held = [row for row in rows if row["against"] is not None]
    assert len(held) == 1 + 2 + 3
    assert all(row["met"] == (row["ratio"] >= row["goal"]) for row in held)
    assert min(row["value"] for row in rows if row["why"] is None) > 0
    of_shards = 0 if s3.missing() else 8
    assert len([row for row in rows if row["row"].endswith("| rate")]) == 3 + of_shards
    assert not list(tmp_path.glob("store-*"))


@pytest.mark.torch
def test_a_populated_store_is_one_that_a_harvest_could_have_made(tmp_path: Path) -> None:
    store_million.populate(tmp_path, 100)
    with WeakLabelStore(tmp_path) as opened:
        frames = opened.frames()
        assert len(frames) == 100
        assert {len(opened.clip(frame.instance)) for frame in frames} == {1, 7}
        assert len(opened.evidence.of(frames[0].instance)) == 2
    assert {finding.what for finding in audit(tmp_path)} == {LOST["frames"]}


@pytest.mark.torch
def test_a_harvest_that_is_too_slow_misses_its_goal() -> None:
    row = store._held("harvest", [8.0, 7.0, 9.0], [10.0, 10.0, 10.0], "decoding", 0.8)
    assert (row.ratio, row.met, row.low, row.high) == (0.8, True, 0.7, 0.9)
    slower = store._held("harvest", [7.9], [10.0], "decoding", 0.8)
    assert slower.met is False

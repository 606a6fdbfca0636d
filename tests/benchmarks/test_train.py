import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: pip install --group train")

from dicom_node.phantom.study import cohort
from tests.benchmarks import train
from tests.benchmarks.training_arms import Work
from tests.support.phantoms import fill_store
from training.config import EncoderName, Size

SMALL = ["--encoder", "small", "--height", "64", "--width", "64", "--batch-size", "4"]


@pytest.mark.slow
@pytest.mark.torch
def test_a_quick_run_measures_every_arm_on_the_same_store(tmp_path: Path) -> None:
    fill_store(tmp_path / "store", cohort(seed=0, patients=2))
    arguments = [*SMALL, "--accelerator", "cpu", "--steps", "2", "--rounds", "1"]
    train.main([*arguments, "--store", str(tmp_path / "store"), "--folder", str(tmp_path)])
    found = {row["row"] + (row["against"] or ""): row for row in _rows(tmp_path)}
    rates = [row["value"] for name, row in found.items() if name.endswith("| rate")]
    assert len(rates) == 4
    assert min(rates) > 0
    held = [row for row in found.values() if row["ratio"] is not None]
    assert {row["against"] for row in held} == {train.SYNTHETIC, train.PLAIN}
    assert all(row["met"] == (row["ratio"] >= row["goal"]) for row in held)
    unmeasured = [row for row in found.values() if row["value"] is None]
    assert len(unmeasured) == 2
    assert all(row["why"] == train.NO_GPU for row in unmeasured)


@pytest.mark.torch
def test_a_slower_store_misses_its_goals() -> None:
    rates = {train.STORE: [9.0, 10.0], train.SYNTHETIC: [10.0, 20.0], train.PLAIN: [10.0, 10.0]}
    held = {row.against: row for row in train._rows(rates, is_gpu=False) if row.against}
    synthetic, plain = held[train.SYNTHETIC], held[train.PLAIN]
    assert (synthetic.ratio, synthetic.met) == (pytest.approx(0.7), False)
    assert (plain.goal, plain.met) == (1.5, False)


@pytest.mark.torch
def test_the_papers_minutes_are_told_of_the_papers_setting_alone() -> None:
    work = Work(encoder=EncoderName.RESNET18, size=Size(), batch_size=32, steps=1)
    rates = {train.STORE: [5000.0]}
    [minutes, share] = train._paper_rows(rates, work, is_gpu=True)
    assert minutes.value is share.value is None
    assert minutes.why == "measured with another encoder or size"


@pytest.mark.torch
def test_the_papers_minutes_are_told_without_and_with_validation() -> None:
    rates = {train.STORE: [9814 * 200 / 1200], train.VALIDATION: [2453 * 200 / 300]}
    steps, whole = train._minutes(rates, "200 epochs")
    assert (steps.row, steps.value) == ("200 epochs: training steps alone", pytest.approx(20))
    assert (whole.value, whole.met) == (pytest.approx(25), True)
    assert whole.row == "200 epochs, a validation pass over 2,453 after each"


def _rows(folder: Path) -> list[dict]:
    rows: list[dict] = json.loads((folder / "train.json").read_text())
    return rows

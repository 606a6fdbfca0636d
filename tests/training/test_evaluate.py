from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.records import Task
from tests.support.finetuning import settings
from training import recipes, runs
from training.config import PretrainSettings
from training.evaluate import compare, evaluate, read_scores
from training.runs import RunInfo


def run_with(folder: Path, *, finished: bool = True, **columns: object) -> Path:
    """Make a finished run with these scores of 40 frames of 10 patients."""
    info = RunInfo(
        kind="finetune",
        settings=settings(Task.QUALITY),
        store_version="abc",
        finished_at=datetime.now(UTC) if finished else None,
    )
    runs.begin(folder, info)
    frames = np.array([f"{n:064x}" for n in range(40)])
    given = {"frame_id": frames, "patient": np.repeat(np.arange(10), 4)} | columns
    np.savez(folder / runs.SCORES, **given)  # type: ignore[arg-type]
    return folder


def scores(seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, 40)


def test_each_measure_has_a_mean_and_a_spread_by_frames_and_by_patients(tmp_path: Path) -> None:
    values = scores(0)
    values[:4] = np.nan  # nothing was asked of the first patient
    found = evaluate(run_with(tmp_path, accuracy=values, empty=np.full(40, np.nan)), draws=500)
    assert set(found) == {"accuracy"}
    assert (found["accuracy"].frames, found["accuracy"].patients) == (36, 9)
    sd = np.nanstd(values)
    assert found["accuracy"].by_frame.mean == pytest.approx(np.nanmean(values), abs=0.05)
    assert found["accuracy"].by_frame.sd == pytest.approx(sd / np.sqrt(18), rel=0.15)
    assert found["accuracy"].by_patient.sd > 0


def test_a_better_run_is_told_from_an_equal_one(tmp_path: Path) -> None:
    base = run_with(tmp_path / "base", accuracy=scores(0))
    better = run_with(tmp_path / "better", accuracy=scores(0) + 0.3 + 0.1 * scores(1))
    found = compare(better, base)["accuracy"]
    assert found.ours - found.theirs == pytest.approx(0.3, abs=0.1)
    assert max(found.p_frames, found.p_patients, found.p_wilcoxon) < 0.01
    same = compare(base, base)["accuracy"]
    assert (same.p_frames, same.p_patients, same.p_wilcoxon) == (1, 1, 1)


def test_runs_on_other_frames_are_not_compared(tmp_path: Path) -> None:
    one = run_with(tmp_path / "one", accuracy=scores(0))
    frames = np.array([f"{n:064x}" for n in range(20, 60)])
    other = run_with(tmp_path / "other", accuracy=scores(0), frame_id=frames)
    with pytest.raises(StoreError, match="of which 20 are the same"):
        compare(one, other)
    with pytest.raises(StoreError, match="have no measure in common"):
        compare(one, run_with(tmp_path / "third", dice=scores(0)))


def test_what_has_no_scores_says_why(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not finished; give the same 'train finetune' again"):
        read_scores(run_with(tmp_path / "half", finished=False))
    empty = np.array([], dtype=np.str_)
    with pytest.raises(StoreError, match="no labelled patient falls into the split 'test'"):
        read_scores(run_with(tmp_path / "none", frame_id=empty, patient=empty))
    broken = run_with(tmp_path / "broken")
    (broken / runs.SCORES).write_bytes(b"no scores")
    with pytest.raises(StoreError, match=r"scores\.npz: damaged"):
        read_scores(broken)
    pretraining = PretrainSettings(strategy=recipes.load("ce"))
    runs.begin(
        tmp_path / "pretrain",
        RunInfo(kind="pretrain", settings=pretraining, store_version="abc"),
    )
    with pytest.raises(StoreError, match="a pretraining has no scores"):
        read_scores(tmp_path / "pretrain")

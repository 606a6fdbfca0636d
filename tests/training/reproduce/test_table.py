from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import StoreError
from tests.support.matrices import tiny, write_results
from training.pack import Pack
from training.reproduce import results
from training.reproduce.cells import FinetuneCell
from training.reproduce.table import Column, tabulate


def scores(cell: FinetuneCell, count: int) -> NDArray[np.float64]:
    """CE+DCM is 0.1 better on every frame; seeds differ by 0.02."""
    rng = np.random.default_rng(0)
    bonus = 0.1 * (cell.strategy == "ce_dcm") + 0.02 * cell.settings.seed
    return rng.uniform(0.3, 0.6, count) + bonus


def column() -> Column:
    return Column(encoder="small", task="quality", share=1.0)  # type: ignore[arg-type]


def test_means_and_spreads_are_over_the_bootstraps_of_all_seeds(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny(bootstraps=500)
    write_results(layout, tmp_path, phantoms, scores)
    found = results.read(layout, tmp_path)
    table = tabulate(layout, found)
    score = table.scores["baseline", column()]
    plain = [r.mean for r in found if r.cell.strategy == "baseline"]
    assert list(score.by_seed.values()) == plain
    assert score.mean == pytest.approx(np.mean(plain), abs=0.01)
    assert len(score.draws) == 2 * 500
    assert table.best(column()) == "ce_dcm"


def test_one_strategy_is_tested_against_another_on_the_same_frames(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny()
    write_results(layout, tmp_path, phantoms, scores)
    # each frame of another patient
    found = [
        replace(result, patient=np.arange(len(result.patient)))
        for result in results.read(layout, tmp_path)
    ]
    [comparison] = tabulate(layout, found).comparisons
    assert comparison.difference == pytest.approx(0.1)
    assert comparison.low == pytest.approx(0.1)
    assert comparison.p_frames == pytest.approx(1 / 51)
    assert (comparison.wins, comparison.seeds) == (2, 2)
    assert comparison.is_shown


def test_one_training_that_went_wrong_shows_no_difference(phantoms: Pack, tmp_path: Path) -> None:
    def collapsed(cell: FinetuneCell, count: int) -> NDArray[np.float64]:
        lost = cell.strategy == "baseline" and cell.settings.seed == 0
        better = cell.strategy == "baseline" and cell.settings.seed == 1
        return np.full(count, 0.0 if lost else 0.55 if better else 0.5)

    layout = tiny()
    write_results(layout, tmp_path, phantoms, collapsed)
    found = [
        replace(result, patient=np.arange(len(result.patient)))
        for result in results.read(layout, tmp_path)
    ]
    [comparison] = tabulate(layout, found).comparisons
    assert max(comparison.p_frames, comparison.p_patients) < 0.05
    assert (comparison.wins, comparison.losses) == (1, 1)
    assert not comparison.is_shown


def test_two_patients_show_no_difference_however_many_frames(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny()
    write_results(layout, tmp_path, phantoms, scores)
    [comparison] = tabulate(layout, results.read(layout, tmp_path)).comparisons
    assert comparison.patients == 2
    assert comparison.p_frames < 0.05
    assert not comparison.is_shown


def test_equal_scores_make_no_best_and_no_difference(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny()
    write_results(layout, tmp_path, phantoms, lambda _, count: np.linspace(0, 1, count))
    table = tabulate(layout, results.read(layout, tmp_path))
    assert table.best(column()) is None
    assert not table.comparisons[0].is_shown
    assert table.comparisons[0].p_patients == 1


def test_frames_that_were_not_asked_do_not_count(phantoms: Pack, tmp_path: Path) -> None:
    def half(cell: FinetuneCell, count: int) -> NDArray[np.float64]:
        return np.where(np.arange(count) % 2, np.nan, scores(cell, count))

    layout = tiny()
    write_results(layout, tmp_path, phantoms, half)
    found = results.read(layout, tmp_path)
    score = tabulate(layout, found).scores["baseline", column()]
    assert score.frames == -(-len(found[0].frame_id) // 2)
    assert np.isfinite(score.mean)


def test_what_is_not_finished_is_left_out(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny()
    part = tiny(strategies=["baseline"], compare=[], seeds=[0])
    write_results(part, tmp_path, phantoms, scores)
    table = tabulate(layout, results.read(layout, tmp_path))
    assert set(table.scores) == {("baseline", column())}
    assert table.comparisons == ()


def test_a_damaged_result_says_what_to_delete(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny()
    write_results(layout, tmp_path, phantoms, scores)
    (results.folder_of(tmp_path, layout.finetune[0]) / results.SCORES).write_bytes(b"PK broken")
    with pytest.raises(StoreError, match="delete the folder and run the matrix again"):
        results.read(layout, tmp_path)

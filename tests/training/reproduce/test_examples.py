from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.matrices import tiny, write_results
from training import runs
from training.pack import Pack
from training.reproduce import examples, results
from training.reproduce.cells import FinetuneCell

ORGANS = {"task": "segmentation", "labels": "liver-kidney", "epochs": 1}


def falling(cell: FinetuneCell, count: int) -> NDArray[np.float64]:
    """Each frame is worse than the one before; the first does not count."""
    return np.r_[np.nan, np.linspace(0.9, 0.1, count - 1)]


def test_frames_stand_at_fixed_places_of_the_order_the_best_first(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny(tasks={"organs": ORGANS}, seeds=[0])
    write_results(layout, tmp_path, phantoms, falling)
    shown = results.read(layout, tmp_path)
    count = len(shown[0].frame_id) - 1
    places = [1 + round((1 - place) * (count - 1)) for place in examples.PLACES]
    assert examples.at_places(shown).tolist() == places


def test_examples_are_of_the_smallest_share_and_the_first_seed_where_weights_are_left(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny(tasks={"organs": ORGANS}, shares=[0.5, 1.0])
    write_results(layout, tmp_path, phantoms, falling)
    found = results.read(layout, tmp_path)
    shown = examples.choose(layout, tmp_path, found, encoder="small", task="organs")
    assert [result.cell.name for result in shown] == [
        "finetune/organs/small/baseline/50-percent/seed-0",
        "finetune/organs/small/ce_dcm/50-percent/seed-0",
    ]
    (results.folder_of(tmp_path, shown[0].cell) / runs.NETWORK).unlink()
    [left] = examples.choose(layout, tmp_path, found, encoder="small", task="organs")
    assert left is shown[1]


def test_holes_are_shown_of_frames_with_different_tags(phantoms: Pack) -> None:
    rows = phantoms.select(split="train")
    chosen = examples.of_different_tags(phantoms, rows)
    kinds = len(np.unique(phantoms.tags()[rows], axis=0))
    assert len(chosen) == examples.HOLES
    assert len(np.unique(phantoms.tags()[chosen], axis=0)) == min(kinds, examples.HOLES)

from pathlib import Path

import numpy as np

from dicom_node.records import Task
from tests.support.matrices import tiny, write_results
from training.pack import Pack
from training.reproduce import inference, results

ORGANS = {"task": "segmentation", "labels": "liver-kidney", "epochs": 1}


def test_a_filled_hole_changes_the_hole_and_nothing_else(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny(seeds=[0])
    write_results(layout, tmp_path, phantoms, lambda _, count: np.ones(count))
    [cell] = layout.pretrain
    found = inference.fill(cell, results.folder_of(tmp_path, cell), phantoms.frames[:2])
    assert found is not None
    hole = (slice(None), slice(16, 48), slice(16, 48))
    around = np.ones(found.whole.shape, bool)
    around[hole] = False
    assert (found.hole[hole] == 0).all()
    assert np.array_equal(found.filled[around], found.whole[around])
    assert not np.array_equal(found.filled[hole], found.whole[hole])


def test_a_pretext_without_holes_has_none_to_show(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny(strategies=["dcm"], compare=[], seeds=[0])
    [cell] = layout.pretrain
    assert inference.fill(cell, tmp_path, phantoms.frames[:2]) is None


def test_a_network_answers_rows_of_a_pack_in_their_order(phantoms: Pack, tmp_path: Path) -> None:
    layout = tiny(strategies=["baseline"], compare=[], seeds=[0], tasks={"organs": ORGANS})
    write_results(layout, tmp_path, phantoms, lambda _, count: np.ones(count))
    [cell] = layout.finetune
    run = results.folder_of(tmp_path, cell)
    both = inference.probabilities(cell, run, phantoms, [5, 2])
    assert both.shape == (2, 3, 64, 64)
    alone = inference.probabilities(cell, run, phantoms, [2])
    assert np.allclose(both[1], alone[0], atol=1e-5)


def test_a_quality_is_the_number_of_leading_bits() -> None:
    bits = np.array([[0.9, 0.8, 0.2, 0.9], [0.1, 0.9, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9]], np.float32)
    [cell] = tiny(strategies=["baseline"], compare=[], seeds=[0]).finetune
    assert inference.classes(cell, bits).tolist() == [2, 0, 4]


def test_a_class_is_the_most_probable() -> None:
    lesion = {"task": "classification", "labels": "breast", "epochs": 1}
    [cell] = tiny(strategies=["baseline"], compare=[], seeds=[0], tasks={"l": lesion}).finetune
    assert cell.settings.task is Task.CLASSIFICATION
    assert inference.classes(cell, np.array([[0.2, 0.5, 0.3]], np.float32)).tolist() == [1]

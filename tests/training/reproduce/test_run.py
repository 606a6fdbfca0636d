import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.errors import ConfigError, StoreError
from tests.support.finetuning import with_columns
from tests.support.matrices import reproduce, tiny
from training import runs
from training.pack import Pack
from training.reproduce import ledger, results
from training.reproduce.cells import Plan

ORGANS = {"task": "segmentation", "labels": "thyroid-nodule", "epochs": 1}
QUALITY = {"task": "quality", "epochs": 1, "batch_size": 4}


def of_quality(**changes: Any) -> Plan:
    return tiny(tasks={"quality": QUALITY}, **changes)


@pytest.mark.slow
def test_a_matrix_runs_once_and_tells_how_far_it_is(phantoms: Pack, tmp_path: Path) -> None:
    layout = of_quality()
    entries, told = reproduce(layout, phantoms, tmp_path)
    assert len(told) == len(layout.cells) == 5
    assert told[0].startswith("1/5 pretrain/small/ce_dcm/seed-0: validation_loss")
    assert "left" in told[1]
    assert entries.failed() == {}
    assert all((entries.seconds(cell) or 0) > 0 for cell in layout.cells)
    assert entries.machines() == ["1 CPU core, 32-true"]
    before = {cell.name: results.finished(tmp_path, cell) for cell in layout.cells}
    again, told = reproduce(layout, phantoms, tmp_path)
    assert told == ["5 of 5 cells are finished already"]
    assert {cell.name: results.finished(tmp_path, cell) for cell in layout.cells} == before
    assert again.entries == entries.entries


@pytest.mark.slow
def test_weights_of_the_first_seed_alone_are_kept(phantoms: Pack, tmp_path: Path) -> None:
    layout = of_quality(strategies=["baseline"], compare=[])
    reproduce(layout, phantoms, tmp_path)
    kept = [(results.folder_of(tmp_path, cell) / runs.NETWORK).exists() for cell in layout.finetune]
    assert kept == [True, False]
    assert all(np.isfinite(result.mean) for result in results.read(layout, tmp_path))


@pytest.mark.slow
def test_a_cell_that_fails_is_written_down_and_the_others_go_on(
    phantoms: Pack, tmp_path: Path
) -> None:
    layout = tiny(
        strategies=["baseline"], compare=[], seeds=[0], tasks={"nodule": ORGANS, "quality": QUALITY}
    )
    entries, told = reproduce(layout, phantoms, tmp_path)
    [(name, reason)] = entries.failed().items()
    assert name == layout.finetune[0].name
    assert "no frame has a mask of 'thyroid-nodule'" in reason
    assert f"1/2 {name}: FAILED: {reason}" in told[0]
    assert results.finished(tmp_path, layout.finetune[1]) is not None


@pytest.mark.slow
def test_cells_without_imagenet_weights_are_left_out(phantoms: Pack, tmp_path: Path) -> None:
    layout = of_quality(strategies=["baseline", "imagenet"], compare=[], seeds=[0])
    entries, told = reproduce(layout, phantoms, tmp_path)
    assert told[0].startswith("left out: 1 of 2 cells: no ImageNet weights: nobody publishes any")
    assert list(entries.left_out()) == [layout.finetune[1].name]
    assert entries.failed() == {}


def test_fine_tuning_whose_pretraining_failed_fails_with_it(phantoms: Pack, tmp_path: Path) -> None:
    layout = of_quality(strategies=["dcm"], compare=[], seeds=[0])
    rows = phantoms.rows
    blank = np.zeros_like(rows.groups), np.full_like(rows.geometry, -1)
    without_tags = with_columns(phantoms, groups=blank[0], geometry=blank[1])
    entries, _ = reproduce(layout, without_tags, tmp_path)
    assert "none of" in entries.failed()[layout.pretrain[0].name]
    assert entries.failed()[layout.finetune[0].name] == f"{layout.pretrain[0].name} failed"


def begun(layout: Plan, out: Path, **changes: object) -> None:
    cell = layout.finetune[0]
    info = {"kind": "finetune", "settings": cell.settings, "store_version": "another"} | changes
    runs.begin(results.folder_of(out, cell), runs.RunInfo.model_validate(info))


def test_runs_of_another_store_are_not_mixed_in(phantoms: Pack, tmp_path: Path) -> None:
    layout = of_quality()
    begun(layout, tmp_path)
    with pytest.raises(ConfigError, match="a run on the store another, which is"):
        reproduce(layout, phantoms, tmp_path)


def test_runs_with_other_settings_are_not_mixed_in(phantoms: Pack, tmp_path: Path) -> None:
    begun(of_quality(), tmp_path, store_version=phantoms.store_version)
    changed = tiny(tasks={"quality": QUALITY | {"epochs": 2}})
    with pytest.raises(ConfigError, match="a run with other settings than the matrix has now"):
        reproduce(changed, phantoms, tmp_path)


def test_two_matrices_do_not_work_in_one_folder(phantoms: Pack, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another reproduction works there"):
            reproduce(of_quality(), phantoms, tmp_path)


def test_a_damaged_ledger_says_that_finished_cells_stay_finished(tmp_path: Path) -> None:
    (tmp_path / ledger.CELLS).write_text('{"cell": {"nothing": 1}}')
    with pytest.raises(StoreError, match="delete it, finished cells stay finished"):
        ledger.read(tmp_path)

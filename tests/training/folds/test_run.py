"""A whole table over three folds, with everything tiny."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import ConfigError, StoreError
from tests.support.folds import LABELS, lines, table, written
from training import runs
from training.config import Engine, Size
from training.engine import launch
from training.folds import frames, report
from training.folds.finetuning import PEEKED
from training.folds.frames import FoldedFrames
from training.folds.run import Cell, Results, Shop, run
from training.folds.splitting import split

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(folded: FoldedFrames, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    fabric = launch(Engine(accelerator="cpu", precision="32-true"))
    out = tmp_path_factory.mktemp("folds")
    known = table(
        strategies=["baseline", "uscl", "few", "imagenet"],
        recipes={"few": "uscl"},
        options={
            "uscl": {"labels": LABELS, "features": 4},
            "few": {"labels": LABELS, "features": 4, "labelled": 0.01},
        },
    )
    return Shop(table=known, frames=folded, out=out, fabric=fabric)


@pytest.fixture(scope="module")
def done(shop: Shop) -> Results:
    return run(shop)


def test_every_strategy_is_fine_tuned_in_both_modes_on_every_fold(done: Results) -> None:
    wanted = {
        Cell(strategy=strategy, mode=mode, fold=fold, seed=0)
        for strategy in ("baseline", "uscl", "few")
        for mode in ("last", "all")
        for fold in range(3)
    }
    assert set(done.cells) == wanted
    assert "nobody publishes any of the encoder small" in done.left_out["imagenet"]


def test_a_pretraining_never_sees_the_fold_that_is_tested(shop: Shop, done: Results) -> None:
    del done
    for fold in range(3):
        folder = shop.out / "runs" / f"fold-{fold}" / "seed-0" / "uscl" / "pretrain"
        info = runs.read(folder)
        pack = split(shop.frames, fold, validation=0.25, seed=0, most_frames=None)
        assert info.store_version == pack.store_version
        assert info.training_frames == len(pack.select(split="train"))
        assert not set(pack.select(split="train")) & set(np.flatnonzero(shop.frames.folds == fold))


def test_the_chosen_epoch_is_that_of_validation_and_the_best_on_the_fold_stands_beside(
    shop: Shop, done: Results
) -> None:
    for cell, info in done.cells.items():
        found = report.scores_of(shop, cell)
        assert info.metrics["test_accuracy"] == pytest.approx(found.accuracy, abs=1e-6)
        assert info.metrics[PEEKED] >= info.metrics["test_accuracy"]
        with np.load(shop.out / cell.folder / runs.SCORES) as arrays:
            assert len(arrays["predicted"]) == 18


def test_a_fold_that_cannot_be_split_is_said_before_anything_is_trained(
    shop: Shop, tmp_path: Path
) -> None:
    # outside the last fold one clip is left of a class
    rows = [
        row
        for row in lines()
        if not row["patient"].startswith("pneumonia")
        or row["label"].endswith("fold=2")
        or row["patient"] == "pneumonia-0-0"
    ]
    index = written(tmp_path / "pictures", rows)
    few = frames.read(index, labels=LABELS, size=Size(height=64, width=64))
    out = tmp_path / "out"
    with pytest.raises(StoreError, match=r"1 clip\(s\) of the class 'pneumonia' outside fold 2"):
        run(replace(shop, frames=few, out=out))
    assert not out.exists()


def test_weights_are_kept_of_the_first_fold_alone(shop: Shop, done: Results) -> None:
    kept = {cell for cell in done.cells if (shop.out / cell.folder / runs.NETWORK).exists()}
    assert kept == {cell for cell in done.cells if cell.fold == 0}


def test_rows_of_one_recipe_differ_in_the_labels_that_they_use_and_say_how_many(
    shop: Shop, done: Results
) -> None:
    counts = {row: [info.counts for info in found] for row, found in done.pretrained.items()}
    assert counts == {
        "uscl": 3 * [{"clips": 9, "labelled_clips": 9}],
        "few": 3 * [{"clips": 9, "labelled_clips": 1}],
    }
    page = report.write(shop, done, command="").read_text()
    for line in (r"- uscl: \d+; labels of 9 of 9 clips\n", r"- few: \d+; labels of 1 of 9 clips\n"):
        assert re.search(line, page)
    told = json.loads((shop.out / report.JSON).read_text())["pretrained"]["few"]
    assert [row["labelled_clips"] for row in told] == [1, 1, 1]
    assert len({row["frames"] for row in told}) == 3


def test_a_share_that_was_changed_is_refused_where_the_runs_of_another_lie(
    shop: Shop, done: Results
) -> None:
    del done
    changed = shop.table.model_copy(
        update={"options": shop.table.options | {"few": {"labels": LABELS, "labelled": 0.1}}}
    )
    with pytest.raises(ConfigError, match=r"few/pretrain: holds a run with strategy .*0\.01"):
        run(replace(shop, table=changed))


def test_a_table_that_is_made_again_repeats_nothing(shop: Shop, done: Results) -> None:
    assert run(shop).cells == done.cells


def test_the_report_names_what_was_chosen_how_and_what_is_left_out(
    shop: Shop, done: Results
) -> None:
    page = report.write(shop, done, command="dicom-node train folds ...").read_text()
    assert "18 of 24 fine-tunings finished" in page
    assert "accuracy, best epoch on the test fold" in page
    assert "| uscl | last three layers |" in page
    assert "- imagenet is left out: no ImageNet weights" in page
    content = json.loads((shop.out / report.JSON).read_text())
    found = [
        c["accuracy"] for c in content["cells"] if (c["strategy"], c["mode"]) == ("uscl", "all")
    ]
    cell = f"{100 * np.mean(found):.1f} ± {100 * np.std(found, ddof=1):.1f}"
    assert f"| uscl | everything | {cell} |" in page

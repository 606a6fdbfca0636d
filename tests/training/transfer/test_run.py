"""A whole table of lesions with everything tiny, and its report."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dicom_node.errors import StoreError
from models import encoders
from tests.support import folds
from tests.support.commands import status_of
from tests.support.transfer import table, values
from training import runs
from training.config import Engine
from training.engine import launch
from training.folds.frames import FoldedFrames
from training.pack import Pack
from training.tasks import labels
from training.transfer import report
from training.transfer.run import Cell, Results, Shop, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(clips: FoldedFrames, lesions: Pack, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    fabric = launch(Engine(accelerator="cpu", precision="32-true"))
    out = tmp_path_factory.mktemp("transfer")
    return Shop(table=table(), clips=clips, lesions=lesions, out=out, fabric=fabric)


@pytest.fixture(scope="module")
def done(shop: Shop) -> Results:
    return run(shop)


def test_a_detector_is_trained_from_every_start_and_seed(done: Results) -> None:
    wanted = [
        Cell(strategy=strategy, seed=seed) for seed in (0, 1) for strategy in ("baseline", "uscl")
    ]
    assert list(done.cells) == wanted
    assert "nobody publishes any of the encoder small" in done.left_out["imagenet"]


def test_test_frames_without_a_lesion_are_refused_before_anything_is_pretrained(
    shop: Shop, lesions: Pack, tmp_path: Path
) -> None:
    assert lesions.masks is not None
    masks = lesions.masks.copy()
    masks[labels.splits(lesions, shop.table.detecting(0))["test"]] = 0
    nothing = replace(lesions, masks=masks)
    with pytest.raises(StoreError, match="none of 2 test frames shows a lesion"):
        run(replace(shop, lesions=nothing, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_detector_begins_with_the_encoder_of_its_own_seed(shop: Shop, done: Results) -> None:
    for cell, info in done.cells.items():
        if cell.strategy == "baseline":
            assert info.start == "random"
            continue
        pretrained = runs.read(shop.out / cell.folder / "pretrain")
        assert f"seed={cell.seed} store={pretrained.store_version}" in info.start
        assert pretrained.store_version.endswith(f"-fold-0-seed-{cell.seed}")


def test_weights_are_kept_of_the_first_seed_alone(shop: Shop, done: Results) -> None:
    kept = {c for c in done.cells if (shop.out / c.folder / "detect" / runs.NETWORK).exists()}
    assert kept == {cell for cell in done.cells if cell.seed == 0}


def test_a_table_that_is_made_again_repeats_nothing(shop: Shop, done: Results) -> None:
    told: list[tuple[str, int]] = []
    again = replace(shop, say=lambda text: told.append((text, 0)))
    assert run(again).cells == done.cells
    assert told[0][0].startswith("1/6 baseline, seed 0: AP50 of boxes ")


def test_the_report_has_mean_and_deviation_and_what_is_left_out(shop: Shop, done: Results) -> None:
    page = report.write(shop, done, command="dicom-node train lesions ...").read_text()
    assert "4 of 6 detectors finished" in page
    assert "frames with masks: 8 train, 2 validation, 2 test" in page
    assert f"| imagenet |{' |' * 9} 0 |" in page
    assert "- imagenet is left out: no ImageNet weights" in page
    assert "Not run yet" not in page
    dice = [i.metrics["validation_dice"] for c, i in done.cells.items() if c.strategy == "uscl"]
    cell = f"{100 * np.mean(dice):.1f} ± {100 * np.std(dice, ddof=1):.1f}"
    [line] = [line for line in page.splitlines() if line.startswith("| uscl |")]
    assert f" {cell} |" in line
    with (shop.out / report.CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["strategy"], int(row["seed"])) for row in rows] == [
        (cell.strategy, cell.seed) for cell in done.cells
    ]


def test_a_report_on_the_way_names_the_cells_that_are_missing(shop: Shop, done: Results) -> None:
    first, *_ = done.cells
    half = Results(cells={first: done.cells[first]}, left_out=done.left_out)
    page = report.write(shop, half, command="").read_text()
    assert "- Not run yet: uscl of seed 0, baseline of seed 1, uscl of seed 1" in page


def test_the_command_makes_the_table_and_goes_on_where_it_was(
    index: Path, lesions: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own.yaml", tmp_path / "out"
    own.write_text(yaml.safe_dump(values(strategies=["baseline"], options={}, seeds=[0])))
    words = f"lesions {own} --index {index} --pack {lesions.folder} --out {out}"
    assert status_of(*words.split(), "--accelerator", "cpu") == 0
    first = capsys.readouterr().out
    assert "1/1 baseline, seed 0: detect: epoch 1/1" in first
    assert (out / report.MARKDOWN).exists()
    assert status_of(*words.split(), "--accelerator", "cpu") == 0
    assert "epoch 1/1" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["lesions", "folds"])
def test_a_table_that_a_gpu_has_no_room_for_says_what_to_make_smaller(
    command: str,
    index: Path,
    lesions: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_room(name: str, *, width: int = 16) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoders, "build", no_room)
    own, made_of = tmp_path / "own.yaml", values if command == "lesions" else folds.values
    own.write_text(yaml.safe_dump(made_of(strategies=["baseline"], options={}, seeds=[0])))
    words = f"{command} {own} --index {index} --out {tmp_path / 'out'} --accelerator cpu"
    source = ("--pack", lesions.folder) if command == "lesions" else ()
    assert status_of(*words.split(), *source) == 1
    assert "give it a smaller pretrain.batch_size" in capsys.readouterr().err

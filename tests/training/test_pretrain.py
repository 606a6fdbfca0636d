import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric import Fabric

from dicom_node.errors import StoreError
from dicom_node.phantom.study import cohort
from tests.conftest import REPOSITORY
from tests.support.phantoms import fill_store
from training import pack, recipes, runs
from training.config import PretrainSettings, Size
from training.loop import Epoch
from training.pack import Pack
from training.pretrain import pretrain

SIZE = Size(height=64, width=64)


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack.build(phantom_store, tmp_path_factory.mktemp("packs") / "pack", SIZE)


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def settings(recipe: str, **changes: object) -> PretrainSettings:
    given = {
        "strategy": recipes.load(recipe),
        "encoder": "small",
        "encoder_width": 4,
        "size": SIZE,
        "epochs": 2,
        "learning_rate": 1e-3,
    }
    return PretrainSettings.model_validate(given | changes)


@pytest.mark.parametrize("recipe", ["dcm", "ce", "ce_dcm", "ce_dcm_log", "ce_tags"])
def test_every_strategy_learns_on_the_same_loop_and_leaves_an_encoder(
    phantoms: Pack, fabric: Fabric, tmp_path: Path, recipe: str
) -> None:
    told: list[Epoch] = []
    info = pretrain(
        settings(recipe), phantoms, fabric, run=tmp_path / "run", after_epoch=told.append
    )
    assert [epoch.number for epoch in told] == [1, 2]
    assert info.finished_at is not None
    assert info.best_epoch in (1, 2)
    assert info.metrics["validation_loss"] == told[info.best_epoch - 1].validation["loss"]
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"run.json", "encoder.pt", "network.pt"}


def test_test_patients_are_never_seen(phantoms: Pack, fabric: Fabric, tmp_path: Path) -> None:
    info = pretrain(settings("ce", epochs=1), phantoms, fabric, run=tmp_path / "run")
    assert info.training_frames == len(phantoms.select(split="train"))
    assert len(phantoms.select(split="test"))


def test_a_finished_run_is_not_repeated(phantoms: Pack, fabric: Fabric, tmp_path: Path) -> None:
    first = pretrain(settings("dcm"), phantoms, fabric, run=tmp_path / "run")

    def nothing_more(epoch: Epoch) -> None:
        pytest.fail(f"epoch {epoch.number} was trained again")

    again = pretrain(
        settings("dcm"), phantoms, fabric, run=tmp_path / "run", after_epoch=nothing_more
    )
    assert again == first


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("groups", 0, "none of .* has a tag that the strategy 'ce_dcm' learns from: see"),
        ("groups", 4, "bear the same tags: there is nothing to tell apart"),
    ],
)
def test_tags_that_teach_nothing_are_refused_before_time_is_spent(
    phantom_store: Path, fabric: Fabric, tmp_path: Path, column: str, value: int, sentence: str
) -> None:
    opened = pack.build(phantom_store, tmp_path / "pack", SIZE)
    getattr(opened.rows, column)[:] = value
    opened.rows.geometry[:] = 0 if value else len(pack.rows.GEOMETRIES) - 1
    with pytest.raises(StoreError, match=sentence):
        pretrain(settings("ce_dcm"), opened, fabric, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    pretrain(settings("ce", epochs=1), opened, fabric, run=tmp_path / "run")


def test_one_patient_alone_is_refused(fabric: Fabric, tmp_path: Path) -> None:
    fill_store(tmp_path / "store", cohort(seed=0, patients=1))
    opened = pack.build(tmp_path / "store", tmp_path / "pack", SIZE)
    with pytest.raises(StoreError, match=r"1 patient\(s\) have frames .* more patients"):
        pretrain(settings("ce"), opened, fabric, run=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_pretraining_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    phantoms: Pack, tmp_path: Path
) -> None:
    def started(run: Path) -> subprocess.Popen[bytes]:
        words = f"pretrain --recipe ce_dcm --pack {phantoms.folder} --out {run} --encoder small"
        size = "--height 64 --width 64 --epochs 6 --batch-size 8 --accelerator cpu"
        return subprocess.Popen(
            [sys.executable, "-m", "training", *words.split(), *size.split()],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert started(whole).wait(timeout=90) == 0
    process = started(killed)
    deadline = time.monotonic() + 90
    while not (killed / runs.CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert runs.read(killed).finished_at is None
    assert started(killed).wait(timeout=90) == 0
    one, two = (runs.load_state(run / runs.ENCODER) for run in (whole, killed))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert runs.read(whole).metrics == runs.read(killed).metrics

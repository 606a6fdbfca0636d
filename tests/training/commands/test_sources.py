"""Frames of a store that grows while runs begin, are killed and go on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lightning_fabric import Fabric

from dicom_node.store import WeakLabelStore
from tests.conftest import REPOSITORY
from tests.support.commands import SMALL, status_of
from tests.support.frames import new_frame
from tests.support.launching import launch_module
from training import pack, recipes, runs
from training.config import PretrainSettings, Size
from training.loop import Epoch
from training.pretrain import pretrain

SIZE = Size(height=64, width=64)
#: What `SMALL` says, of three epochs.
SETTINGS = PretrainSettings(
    strategy=recipes.load("ce"), encoder="small", encoder_width=4, size=SIZE, epochs=3, batch_size=8
)


@pytest.fixture
def store(phantom_store: Path, tmp_path: Path) -> Path:
    """Folder of a store of this test's own."""
    return Path(shutil.copytree(phantom_store, tmp_path / "data" / "store"))


@pytest.fixture
def half_done(store: Path, tmp_path: Path) -> Path:
    """Folder of a pretraining that ended after its first epoch; then a frame was harvested."""

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    begun, fabric = pack.ensure(store, None, SIZE), Fabric(accelerator="cpu", devices=1)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SETTINGS, begun, fabric, run=tmp_path / "run", after_epoch=stop)
    with WeakLabelStore(store) as opened:
        opened.add_frame(new_frame(seed=99, instance="9" * 32))
        assert opened.listing().version != begun.store_version
    return tmp_path / "run"


def go_on(store: Path, run: Path, *more: object) -> int:
    words = ("pretrain", "--recipe", "ce", "--store", store, "--out", run)
    return status_of(*words, *SMALL, "--epochs", 3, *more)


def test_a_run_goes_on_with_the_pack_that_it_began_with(store: Path, half_done: Path) -> None:
    began_with = runs.read(half_done).store_version
    assert go_on(store, half_done) == 0
    info = runs.read(half_done)
    assert info.finished_at is not None
    assert info.store_version == began_with
    assert [path.name for path in (store.parent / "packs").iterdir() if path.is_dir()] == [
        f"{began_with}-64x64"
    ]


def test_a_run_whose_pack_is_gone_is_refused_with_the_cure(
    store: Path, half_done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = (path for path in (store.parent / "packs").iterdir() if path.is_dir())
    found.rename(tmp_path / "elsewhere")
    assert go_on(store, half_done) == 1
    said = capsys.readouterr().err
    assert f"{found}: the pack that the run began with is gone" in said
    assert "give --pack with a copy of it, or another --out" in said
    assert not found.exists()
    words = ("pretrain", "--recipe", "ce", "--pack", tmp_path / "elsewhere", "--out", half_done)
    assert status_of(*words, *SMALL, "--epochs", 3) == 0


def test_other_settings_are_named_before_the_store(
    store: Path, half_done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go_on(store, half_done, "--height", 96) == 2
    assert "holds a run with size {'height': 64, 'width': 64}, not" in capsys.readouterr().err


def test_a_finished_run_does_not_keep_a_new_one_from_what_was_harvested_since(
    store: Path, half_done: Path, tmp_path: Path
) -> None:
    assert go_on(store, tmp_path / "new") == 0
    assert runs.read(tmp_path / "new").store_version != runs.read(half_done).store_version


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_all_processes_open_the_pack_that_the_first_one_found(store: Path, tmp_path: Path) -> None:
    launch_module("tests.support.ranks", "shared", store, tmp_path)
    one, two = ((tmp_path / str(rank)).read_text() for rank in range(2))
    assert one == two
    with WeakLabelStore(store) as opened:
        assert opened.listing().version not in one


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_what_the_first_process_refuses_ends_all_of_them(store: Path, tmp_path: Path) -> None:
    packed = pack.build(store, tmp_path / "pack", SIZE)
    run, out = tmp_path / "run", tmp_path / "said"
    for folder in (run, out):
        folder.mkdir()
    (run / "thesis.tex").touch()
    launch_module("tests.support.ranks", "refused", packed.folder, run, out)
    one, two = ((out / str(rank)).read_text() for rank in range(2))
    assert one == two == f"ConfigError: {run}: holds something that is no run; name another folder"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_training_travels_to_a_machine_without_any_dicom_package(
    store: Path, tmp_path: Path
) -> None:
    packed = pack.build(store, tmp_path / "pack", SIZE)
    code = "import sys; sys.modules.update(dict.fromkeys(('pydicom', 'highdicom', 'pynetdicom')))\n"
    code += "from training.__main__ import main; main()"
    for words in ("pretrain --recipe ce_dcm", "finetune --task quality"):
        run = tmp_path / words.split()[0]
        done = subprocess.run(
            [
                *(sys.executable, "-c", code, *words.split(), *SMALL),
                *("--pack", str(packed.folder), "--out", str(run)),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert runs.read(run).finished_at is not None

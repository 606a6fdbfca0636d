"""``train reproduce`` as a researcher meets it: killed in between, it goes on where it was."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from torch import Tensor, nn

from dicom_node.phantom.study import cohort
from tests.conftest import REPOSITORY
from tests.support.commands import status_of
from tests.support.matrices import reproduce, values, write_results
from tests.support.nodes import until
from tests.support.phantoms import fill_store
from training import pack, tasks
from training.config import Size
from training.pack import Pack
from training.reproduce import cells, ledger, matrix, report, results
from training.reproduce.table import Table, tabulate


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack.ensure(phantom_store, tmp_path_factory.mktemp("packs"), Size(height=64, width=64))


def written(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    return path


def started(file: Path, opened: Pack, out: Path) -> "subprocess.Popen[bytes]":
    words = ["reproduce", str(file), "--pack", str(opened.folder), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "training", *words],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def killed_when(process: "subprocess.Popen[bytes]", reached: Callable[[], bool]) -> None:
    until(lambda: reached() or process.poll() is not None, deadline_s=180.0)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


def scores(table: Table) -> dict[object, tuple[float, float, dict[int, float]]]:
    return {key: (score.mean, score.sd, score.by_seed) for key, score in table.scores.items()}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_a_cell_and_in_the_report_it_ends_with_the_same_table(
    phantoms: Pack, tmp_path: Path
) -> None:
    quality = {"task": "quality", "epochs": 8, "batch_size": 4, "learning_rate": 1e-3}
    file = written(
        tmp_path,
        tasks={"quality": quality},
        strategies=["baseline", "dcm"],
        compare=[["dcm", "baseline"]],
    )
    layout = cells.plan(matrix.load(str(file)))
    out, whole = tmp_path / "out", tmp_path / "whole"
    # the second fine-tuning has begun: the first is finished, and it is in the middle
    second = results.folder_of(out, layout.finetune[1])
    killed_when(started(file, phantoms, out), (second / "epochs.jsonl").exists)
    first = results.finished(out, layout.finetune[0])
    assert first is not None
    assert results.finished(out, layout.finetune[1]) is None
    # everything is finished and the report begun
    killed_when(started(file, phantoms, out), (out / "figures").exists)
    assert results.finished(out, layout.finetune[0]) == first
    assert all(results.finished(out, cell) for cell in layout.cells)
    page = out / report.HTML
    assert not page.exists() or page.read_text("utf-8").rstrip().endswith("</html>")
    assert status_of("reproduce", file, "--pack", phantoms.folder, "--out", out) == 0
    assert page.read_text("utf-8").rstrip().endswith("</html>")
    assert results.finished(out, layout.finetune[0]) == first
    # and a run that nobody killed
    reproduce(layout, phantoms, whole)
    interrupted = tabulate(layout, results.read(layout, out))
    assert scores(interrupted) == scores(tabulate(layout, results.read(layout, whole)))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_while_cells_run_side_by_side_it_leaves_no_process(
    phantoms: Pack, tmp_path: Path
) -> None:
    quality = {"task": "quality", "epochs": 200, "batch_size": 4, "learning_rate": 1e-3}
    file = written(
        tmp_path, tasks={"quality": quality}, strategies=["baseline"], compare=[], at_once=2
    )
    first, second = cells.plan(matrix.load(str(file))).finetune
    out = tmp_path / "out"
    run = started(file, phantoms, out)
    folders = [results.folder_of(out, cell) for cell in (first, second)]

    def both_run() -> bool:
        return all((folder / "epochs.jsonl").exists() for folder in folders)

    until(lambda: both_run() or run.poll() is not None, deadline_s=180.0)
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    killed_when(run, lambda: True)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def test_cells_side_by_side_are_refused_where_they_share_no_cpu(
    phantoms: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("reproduce", written(tmp_path), "--pack", phantoms.folder, "--out", tmp_path / "out")
    assert status_of(*words, "--devices", "2", "--at-once", "2") == 2
    assert "--at-once 2: cells share the cores of one CPU" in capsys.readouterr().err


def test_a_dry_run_says_the_cells_and_leaves_nothing(
    phantoms: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, speed={"pretrain": 10, "finetune": 10, "machine": "a machine"})
    out = tmp_path / "out"
    words = ("reproduce", file, "--pack", phantoms.folder, "--out", out, "--dry-run")
    assert status_of(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pretrain/small/ce_dcm/seed-0: 1 epochs of ")
    assert lines[-1].startswith("5 cells to run, about ")
    assert lines[-1].endswith(", at the speed of a machine")
    assert not out.exists()


def test_without_frames_a_dry_run_says_what_to_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status_of("reproduce", "small", "--out", tmp_path / "out", "--dry-run") == 0
    assert "148 cells to run; name --store or --pack" in capsys.readouterr().out


@pytest.mark.slow
def test_failed_cells_end_the_command_with_1_and_still_a_report(
    phantoms: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodule = {"task": "segmentation", "labels": "thyroid-nodule", "epochs": 1}
    tasks = {"nodule": nodule, "quality": {"task": "quality", "epochs": 1}}
    file = written(tmp_path, tasks=tasks, strategies=["baseline"], compare=[], seeds=[0])
    out = tmp_path / "out"
    assert status_of("reproduce", file, "--pack", phantoms.folder, "--out", out) == 1
    said = capsys.readouterr().out
    assert "1 of 2 cells failed, the first: finetune/nodule/" in said
    assert "1 failed: no frame has a mask" in (out / report.MARKDOWN).read_text("utf-8")
    (out / report.MARKDOWN).unlink()
    assert status_of("reproduce", file, "--out", out, "--only-report") == 1
    assert (out / report.MARKDOWN).exists()


def test_a_report_of_nothing_ends_with_1_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status_of("reproduce", "small", "--out", tmp_path / "out", "--only-report") == 1
    assert "nothing to report: run it first" in capsys.readouterr().err


def finished(folder: Path, opened: Pack) -> tuple[Path, Path]:
    """Return the file of a matrix and the folder of its finished cells."""
    organs = {"task": "segmentation", "labels": "liver-kidney", "epochs": 1}
    file, out = written(folder, seeds=[0], tasks={"organs": organs}), folder / "out"
    layout = cells.plan(matrix.load(str(file)))
    write_results(layout, out, opened, lambda _, count: np.linspace(0, 1, count))
    return file, out


def test_a_report_alone_shows_the_frames_that_the_cells_learned_from(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(phantom_store, store)
    before = pack.ensure(store, None, Size(height=64, width=64))
    file, out = finished(tmp_path, before)
    fill_store(store, cohort(seed=1, patients=1))
    words = ("reproduce", file, "--store", store, "--out", out, "--only-report")
    assert status_of(*words) == 0
    text = (out / report.MARKDOWN).read_text("utf-8")
    assert f"Pretraining frames: {len(before.select(split='train'))} of" in text
    assert "](figures/segmentation-organs-small.png)" in text
    # the pack of that version is gone, and of the store there is only what it is now
    shutil.rmtree(before.folder)
    assert status_of(*words) == 0
    text = (out / report.MARKDOWN).read_text("utf-8")
    assert "Pretraining frames" not in text
    assert re.search(
        rf"the store {before.store_version}, which is (?!{before.store_version})", text
    )
    # and a store that is gone too costs no more than the frames
    shutil.rmtree(store)
    capsys.readouterr()
    assert status_of(*words) == 0
    assert "a report without frames: " in capsys.readouterr().out


def test_the_report_says_the_whole_command_that_makes_it_again(
    phantoms: Pack, tmp_path: Path
) -> None:
    file, out = finished(tmp_path, phantoms)
    config = tmp_path / "a node.yaml"
    given = ("reproduce", file, "--config", config, "--pack", phantoms.folder, "--out", out)
    where = ("--accelerator", "cpu", "--devices", "1", "--nodes", "1", "--precision", "32-true")
    flags = ("--compile", "--deterministic")
    assert status_of(*given, *where, *flags, "--only-report") == 0
    text = (out / report.MARKDOWN).read_text("utf-8")
    again = f"dicom-node train reproduce {file} --config '{config}' --pack {phantoms.folder} "
    again += f"--out {out} {' '.join((*where, *flags))}"
    assert text.rstrip().endswith(f"\n    {again}")


@pytest.mark.slow
def test_the_flags_of_the_engine_stand_above_the_matrix(
    phantoms: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, strategies=["baseline"], compare=[], seeds=[0])
    words = ("reproduce", file, "--pack", phantoms.folder, "--out", tmp_path / "out")
    assert status_of(*words, "--nodes", "0") == 2
    assert "--nodes: 0 will not do" in capsys.readouterr().err
    try:
        assert status_of(*words, "--deterministic") == 0
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_cells_that_a_gpu_has_no_room_for_name_the_batch_that_fits(
    phantoms: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, room = tasks.encoders.build, 5

    def refuse(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def hungry(name: str, *, width: int = 16) -> nn.Module:
        encoder = build(name, width=width)
        encoder.register_forward_pre_hook(refuse)
        return encoder

    monkeypatch.setattr(tasks.encoders, "build", hungry)
    file = written(tmp_path, seeds=[0], tasks={"quality": {"task": "quality", "epochs": 1}})
    out = tmp_path / "out"
    assert status_of("reproduce", file, "--pack", phantoms.folder, "--out", out) == 1
    failed = ledger.read(out).failed()
    layout = cells.plan(matrix.load(str(file)))
    pretraining, baseline = layout.pretrain[0].name, layout.finetune[0].name
    assert failed[pretraining] == (
        "the GPU has no room for pretrain.batch_size: 8; 4 fits: "
        "give the matrix pretrain.batch_size: 4"
    )
    assert "tasks.quality.batch_size: 8; 4 fits" in failed[baseline]
    room = 1
    assert status_of("reproduce", file, "--pack", phantoms.folder, "--out", out) == 1
    assert "nor for any smaller one" in ledger.read(out).failed()[baseline]


def test_a_matrix_goes_on_with_the_frames_it_began_with(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(phantom_store, store)
    file, out = finished(tmp_path, pack.ensure(store, None, Size(height=64, width=64)))
    fill_store(store, cohort(seed=1, patients=1))
    assert status_of("reproduce", file, "--store", store, "--out", out) == 0
    assert "3 of 3 cells are finished already" in capsys.readouterr().out

import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dicom_node.errors import ConfigError, StoreError
from models.resnet3d import ResNet3d
from tests.support.commands import status_of
from tests.support.launching import launch_module
from tests.support.volumes import TINY, fill_folder, fill_store, slopes
from training import curves, runs
from training.config import Engine, VolumeSegmentSettings
from training.engine import launch
from training.loop import Epoch
from training.runs import RunInfo
from training.volumes import tasks
from training.volumes.running import name_series, segment
from training.volumes.scores import read_scores, totals
from training.volumes.source import VolumeSet, from_folder, from_store
from training.volumes.tasks import SegmentingVolumes

SEGMENT = VolumeSegmentSettings(
    depth=10, width=2, shrink=4, epochs=2, batch_size=4, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return launch(Engine(accelerator="cpu", precision="32-true"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes") / "store"
    fill_store(folder, 24)
    return folder


@pytest.fixture(scope="module")
def volumes(store: Path) -> VolumeSet:
    return from_store(store)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "masks"
    fill_folder(folder, 16)
    return folder


@pytest.fixture(scope="module")
def named(volumes: VolumeSet, fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run that learned what series are."""
    run = tmp_path_factory.mktemp("runs") / "series"
    settings = TINY.model_copy(update={"epochs": 10})
    with curves.recording(run) as record:
        name_series(settings, volumes, fabric, run=run, after_epoch=record)
    return run


def test_all_heads_learn_in_the_loop_of_the_frames(named: Path) -> None:
    info = runs.read(named)
    assert (info.kind, info.finished_at is not None) == ("series", True)
    first, *_, last = (one.training for one in curves.read(named))
    assert first.keys() == last.keys()
    assert last["network/loss"] < 0.8 * first["network/loss"]
    for head in ("regions", "spacing"):
        assert last[f"network/{head}"] < 0.3 * first[f"network/{head}"]
    scores = read_scores(named)
    assert scores.targets is not None
    assert scores.answers is not None
    assert totals(scores.targets, scores.answers)["regions"] == (2, 1.0)


def test_a_finished_run_is_not_repeated(named: Path, volumes: VolumeSet, fabric: Fabric) -> None:
    epochs: list[Epoch] = []
    settings = runs.read(named).settings
    again = name_series(settings, volumes, fabric, run=named, after_epoch=epochs.append)  # type: ignore[arg-type]
    assert (again, epochs) == (runs.read(named), [])


def test_a_run_that_was_broken_off_ends_as_one_that_was_not(
    volumes: VolumeSet, fabric: Fabric, tmp_path: Path
) -> None:
    def break_off(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        name_series(TINY, volumes, fabric, run=tmp_path / "broken", after_epoch=break_off)
    assert (tmp_path / "broken" / runs.CHECKPOINT).exists()
    for name in ("broken", "whole"):
        name_series(TINY, volumes, fabric, run=tmp_path / name)
    one, two = (runs.load_state(tmp_path / n / runs.ENCODER) for n in ("broken", "whole"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_masks_are_learned_from_its_weights(
    named: Path, masks: Path, fabric: Fabric, tmp_path: Path
) -> None:
    epochs: list[Epoch] = []
    settings = SEGMENT.model_copy(update={"epochs": 8})
    info = segment(
        settings,
        from_folder(masks),
        fabric,
        run=tmp_path / "run",
        start=named,
        after_epoch=epochs.append,
    )
    version = runs.read(named).store_version
    assert info.kind == "segment volumes"
    assert info.start.startswith(f"series store={version} sha256:")
    assert epochs[-1].training["network/loss"] < epochs[0].training["network/loss"]
    assert {"test_loss", "test_dice_1", "test_dice_2"} <= info.metrics.keys()


@pytest.mark.parametrize("freeze", [4, 2, 0])
def test_what_is_frozen_stays_with_its_batch_statistics(
    named: Path, masks: Path, fabric: Fabric, tmp_path: Path, freeze: int
) -> None:
    settings = SEGMENT.model_copy(update={"epochs": 1, "freeze": freeze})
    segment(settings, from_folder(masks), fabric, run=tmp_path / "run", start=named)
    before, after = (runs.load_state(run / runs.ENCODER) for run in (named, tmp_path / "run"))
    changed = {
        name.split(".")[1]
        for name in before
        if not np.array_equal(before[name], after[name]) and name.startswith("blocks")
    }
    assert changed == {str(block) for block in range(freeze, 4)}
    assert all(np.array_equal(before[n], after[n]) for n in before if n.startswith("stem"))


def test_other_weights_of_the_same_name_make_another_run(
    named: Path, masks: Path, fabric: Fabric, tmp_path: Path
) -> None:
    settings = SEGMENT.model_copy(update={"epochs": 1})
    copied = tmp_path / "elsewhere" / named.name
    shutil.copytree(named, copied)

    def begun() -> RunInfo:
        run = tmp_path / "run"
        return segment(settings, from_folder(masks), fabric, run=run, start=copied)

    first = begun()
    assert begun() == first
    state = runs.load_state(copied / runs.ENCODER)
    next(iter(state.values())).add_(1)
    runs.save(copied / runs.ENCODER, state)
    with pytest.raises(ConfigError, match=r"holds a run with start series store=\w+ sha256:"):
        begun()


def test_a_run_to_start_from_that_will_not_do_is_refused_with_the_cure(
    named: Path, masks: Path, fabric: Fabric, tmp_path: Path
) -> None:
    begun, other = tmp_path / "begun", tmp_path / "other"
    info = runs.read(named)
    runs.begin(begun, info.model_copy(update={"finished_at": None}))
    runs.begin(other, info.model_copy(update={"kind": "segment volumes", "settings": SEGMENT}))
    for start, cure in (
        (begun, "begun: not finished; give the same 'train volumes pretrain' again"),
        (other, "a run of 'segment volumes'; name one of 'train volumes pretrain'"),
        (tmp_path / "absent", "absent: no run here"),
    ):
        with pytest.raises(StoreError, match=cure):
            segment(SEGMENT, from_folder(masks), fabric, run=tmp_path / "run", start=start)
    assert not (tmp_path / "run").exists()


def test_smaller_shares_lie_in_larger_ones(masks: Path, fabric: Fabric, tmp_path: Path) -> None:
    found = from_folder(masks)
    whole = len(found.of_split("train"))
    settings = SEGMENT.model_copy(update={"share": 0.3, "epochs": 1})
    info = segment(settings, found, fabric, run=tmp_path / "run")
    assert info.training_frames == round(0.3 * whole)
    assert info.start == "random"


def test_random_weights_are_not_frozen(masks: Path, fabric: Fabric, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--start"):
        segment(
            SEGMENT.model_copy(update={"freeze": 1}), from_folder(masks), fabric, run=tmp_path / "r"
        )
    assert SegmentingVolumes(SEGMENT).measures == ("loss", "dice_1", "dice_2")


def test_a_split_without_volumes_is_said(fabric: Fabric, tmp_path: Path) -> None:
    fill_store(tmp_path / "store", 2)
    with pytest.raises(StoreError, match="more patients"):
        name_series(TINY, from_store(tmp_path / "store"), fabric, run=tmp_path / "run")


def test_a_file_answers_as_torch_does_and_says_what_its_outputs_are(
    named: Path, tmp_path: Path
) -> None:
    out = tmp_path / "series.onnx"
    assert status_of("volumes", "export", named, "--out", out) == 0
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    voxels = np.zeros((3, 1, 12, 48, 48), np.uint8)
    assert session.run(None, {session.get_inputs()[0].name: voxels})[0].shape == (3, 20)
    assert "sequence T1-FLAIR" in session.get_modelmeta().custom_metadata_map["dicom_node.outputs"]
    assert status_of("volumes", "export", named, "--out", tmp_path / "series.pt") == 2
    assert status_of("volumes", "export", tmp_path, "--out", out) == 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_learn_one_network(store: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "learned"
    out.mkdir()
    launch_module("tests.support.ranks", "series", store, run, out)
    assert runs.read(run).finished_at is not None
    one, two = (runs.load_state(out / f"{rank}.pt") for rank in range(2))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_label_weighs_the_same_whatever_device_knows_it(fabric: Fabric, tmp_path: Path) -> None:
    launch_module("tests.support.ranks", "uneven", tmp_path)
    alone = slopes(fabric)
    for rank in range(2):
        shared = runs.load_state(tmp_path / f"{rank}.pt")
        assert shared.keys() == alone.keys()
        for name, slope in alone.items():
            assert torch.allclose(shared[name], slope, rtol=1e-3, atol=1e-6), name


def test_masks_with_more_values_than_labels_are_said_before_anything_is_learned(
    masks: Path, fabric: Fabric, tmp_path: Path
) -> None:
    two = SEGMENT.model_copy(update={"labels": 2})
    with pytest.raises(StoreError, match=r"P\d+_a.npz: .* value 2, .*take --labels 3"):
        segment(two, from_folder(masks), fabric, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [(("--masks", "absent"), "absent: no volumes"), (("--labels", "2"), "take --labels 3")],
)
def test_a_table_looks_at_its_masks_before_it_pretrains(
    store: Path,
    masks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: tuple[str, str],
    says: str,
) -> None:
    options = "--depth 10 --width 2 --shrink 4 --epochs 1 --segment-epochs 1 --accelerator cpu"
    words = ("--masks", masks, "--store", store, "--out", tmp_path / "t", *options.split())
    assert status_of("volumes", "table", *words, *wrong) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_a_table_takes_a_finished_pretraining_whatever_the_store_holds_by_now(
    named: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(named, tmp_path / "t" / "series")
    first = tmp_path / "t" / "all-frozen-100"
    first.mkdir()
    (first / "note").touch()  # the table ends here
    options = "--depth 10 --width 2 --shrink 4 --epochs 10 --batch-size 4 --learning-rate 1e-2"
    options += " --accelerator cpu"
    words = ("--masks", masks, "--store", tmp_path / "absent", "--out", tmp_path / "t")
    assert status_of("volumes", "table", *words, *options.split()) == 2
    told = capsys.readouterr()
    version = runs.read(named).store_version
    assert f"series: finished with volumes of version {version}, and taken as it is" in told.out
    assert "all-frozen-100: holds something that is no run" in told.err


class Hungry(ResNet3d):
    """An encoder on a device with room for two volumes."""

    def forward(self, volumes: Tensor) -> list[Tensor]:
        if len(volumes) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().forward(volumes)


@pytest.mark.parametrize("command", ["pretrain", "segment"])
def test_a_gpu_that_runs_out_of_memory_is_answered_with_the_volumes_that_fit(
    store: Path,
    masks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setattr(tasks, "ResNet3d", Hungry)
    shape = "--depth 10 --width 2 --shrink 4 --epochs 1 --accelerator cpu"
    source = ("--store", store) if command == "pretrain" else ("--masks", masks)
    words = ("volumes", command, *source, "--out", tmp_path / "run", *shape.split())
    assert status_of(*words, "--batch-size", 8) == 1
    assert "no room for --batch-size 8; 2 fits: take --batch-size 2" in capsys.readouterr().err
    assert status_of(*words, "--batch-size", 3) == 1
    assert "take a larger --shrink, a smaller --width" in capsys.readouterr().err


@pytest.mark.slow
def test_one_command_makes_the_tables(store: Path, masks: Path, tmp_path: Path) -> None:
    options = "--depth 10 --width 2 --shrink 4 --epochs 1 --segment-epochs 1 --accelerator cpu"
    options += " --batch-size 4 --learning-rate 1e-2 --devices 1 --precision 32-true"
    words = ("--masks", masks, "--store", store, "--out", tmp_path / "t", *options.split())
    assert status_of("volumes", "table", *words, "--what", "Phantoms.") == 0
    text = (tmp_path / "t" / "report.md").read_text("utf-8")
    for line in (
        "Phantoms.",
        "## Sequence",
        "| T2-FLAIR |",
        "## Regions",
        "| all frozen |",
        "20 %",
    ):
        assert line in text
    made = [runs.read(path.parent) for path in (tmp_path / "t").glob("*/run.json")]
    assert len(made) == 1 + 6 + 3 * 4
    assert {(run.settings.batch_size, run.settings.learning_rate) for run in made} == {(4, 1e-2)}

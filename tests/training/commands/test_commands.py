"""The commands as a researcher meets them: from frames to a bundle that the node serves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.bundle import Bundle
from dicom_node.records import Task
from tests.conftest import REPOSITORY
from tests.support.commands import SMALL, status_of
from training import runs
from training.commands.presets import PRESETS, Preset
from training.config import FinetuneSettings


@pytest.fixture(scope="module")
def pretrained(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a pretraining."""
    out = tmp_path_factory.mktemp("pretrained") / "ce_dcm"
    words = ("pretrain", "--recipe", "ce_dcm", "--store", phantom_store, "--out", out, *SMALL)
    assert status_of(*words) == 0
    return out


def finetuned(store: Path, out: Path, *more: object, task: str = "quality") -> int:
    return status_of("finetune", "--task", task, "--store", store, "--out", out, *SMALL, *more)


@pytest.mark.parametrize("name", ["pretrain", "finetune", "evaluate", "export", "reproduce"])
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(name, "--help") == 0
    assert f"Example: dicom-node train {name}" in " ".join(capsys.readouterr().out.split())


def test_the_command_itself_has_help_and_starts_without_torch() -> None:
    code = "import sys, runpy; sys.argv = ['training', 'nothing']; "
    code += "import training.__main__; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_four_lines_lead_from_frames_to_a_bundle(
    pretrained: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "organs", tmp_path / "bundles" / "organs.onnx"
    more = ("--start", pretrained, "--freeze", "--share", "0.5", "--seed", 7)
    assert finetuned(phantom_store, run, *more, task="segmentation") == 0
    said = capsys.readouterr().out
    assert "fine-tune segmentation: epoch 1/1" in said
    assert "test_dice " in said
    assert status_of("evaluate", run, "--json") == 0
    measured = json.loads(capsys.readouterr().out)["measures"]
    assert set(measured) <= {"dice", "dice_liver", "dice_kidney"}
    words = ("--groups", "liver,kidney", "--name", "organs", "--every-nth-frame", 3)
    assert status_of("export", run, "--out", out, *words) == 0
    assert [path.name for path in out.parent.iterdir()] == ["organs.onnx"]
    manifest = Bundle(out).manifest
    assert [(label.value, label.type.meaning) for label in manifest.labels] == [
        (1, "Liver"),
        (2, "Kidney"),
    ]
    assert (manifest.name, manifest.task) == ("organs", Task.SEGMENTATION)
    assert set(manifest.routing.groups) == {"liver", "kidney"}
    assert (manifest.input.height, manifest.input.width) == (64, 64)
    assert manifest.every_nth_frame == 3
    origin, info = manifest.provenance, runs.read(run)
    assert (origin.seed, origin.store_version) == (7, info.store_version)
    assert origin.pretraining.startswith("ce_dcm small 64x64 epochs=1")
    assert "share=0.5" in origin.recipe
    assert "frozen=encoder" in origin.recipe
    assert manifest.metrics == info.metrics


def test_a_run_that_is_named_again_trains_no_more(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert finetuned(phantom_store, tmp_path / "run") == 0
    assert capsys.readouterr().out.count("epoch 1/1") == 1
    assert finetuned(phantom_store, tmp_path / "run", "--seed", 1) == 2
    assert "holds a run with seed 0, not 1" in capsys.readouterr().err
    assert (tmp_path / "run" / "epochs.jsonl").read_text().count("\n") == 1


def test_two_runs_are_compared(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        assert finetuned(phantom_store, tmp_path / str(seed), "--seed", seed) == 0
    capsys.readouterr()
    assert status_of("evaluate", tmp_path / "0", "--against", tmp_path / "1") == 0
    said = capsys.readouterr().out
    assert "p patients" in said
    assert "absolute error" in said


def test_the_store_of_a_node_is_found_through_its_configuration(
    phantom_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").symlink_to(phantom_store)
    (tmp_path / "node.yaml").write_text("node: {data: data}\n")
    out = tmp_path / "quality.onnx"
    words = ("--config", tmp_path / "node.yaml", "--out", tmp_path / "run", "--bundle", out)
    assert status_of("finetune", "--task", "quality", *words, *SMALL) == 0
    manifest = Bundle(out).manifest
    assert (manifest.name, manifest.labels) == ("view-quality", ())
    assert [site.meaning for site in manifest.finding_sites][:2] == ["Liver", "Kidney"]


def test_the_papers_are_what_nobody_changed() -> None:
    assert set(PRESETS) == {(preset, task) for preset in Preset for task in Task}
    for (_, task), chosen in PRESETS.items():
        labels = None if task is Task.QUALITY else "some"
        FinetuneSettings(task=task, labels=labels, **chosen)
    quality = PRESETS[Preset.FULL, Task.QUALITY]
    assert (quality["epochs"], quality["batch_size"], quality["learning_rate"]) == (300, 4, 5e-5)

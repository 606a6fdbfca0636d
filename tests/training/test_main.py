import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.bundle import Bundle
from dicom_node.phantom.study import cohort
from dicom_node.records import Task
from tests.support.phantoms import fill_store
from training.__main__ import main
from training.config import PRESETS, Preset

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ("--epochs", "1", "--height", "64", "--width", "96")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
def test_a_run_leaves_a_bundle_that_says_where_it_comes_from(
    phantom_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundles" / "organs.onnx"
    arguments = ("--store", phantom_store, "--task", "segmentation", "--out", out, *SMALL)
    done = command("finetune", *arguments, "--groups", "liver,kidney", "--seed", 7)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1" in done.stdout
    assert sorted(path.name for path in out.parent.iterdir()) == ["organs.onnx", "organs.pt"]
    manifest = Bundle(out).manifest
    assert [(label.value, label.type.meaning) for label in manifest.labels] == [
        (1, "Liver"),
        (2, "Kidney"),
    ]
    assert manifest.task is Task.SEGMENTATION
    assert set(manifest.routing.groups) == {"liver", "kidney"}
    assert (manifest.input.height, manifest.input.width) == (64, 96)
    assert manifest.provenance.seed == 7
    assert "input=64x96 epochs=1" in manifest.provenance.recipe
    assert {"validation_dice", "test_dice"} <= manifest.metrics.keys()


def test_presets_hold_a_scale_for_every_task() -> None:
    assert set(PRESETS) == {(preset, task) for preset in Preset for task in Task}
    full = PRESETS[Preset.FULL, Task.QUALITY]
    assert (full.height, full.width) == (256, 384)


@pytest.mark.slow
def test_the_store_of_a_node_is_found_through_its_configuration(tmp_path: Path) -> None:
    fill_store(tmp_path / "data" / "store", cohort(seed=0, patients=12))
    (tmp_path / "node.yaml").write_text("node: {data: data}\n")
    out = tmp_path / "quality.onnx"
    done = command(
        *("finetune", "--config", tmp_path / "node.yaml", "--task", "quality", "--out", out),
        *("--preset", "demo", "--epochs", "1"),
    )
    assert done.returncode == 0, done.stderr
    manifest = Bundle(out).manifest
    assert (manifest.name, manifest.labels) == ("view-quality", ())
    assert (manifest.input.height, manifest.input.width) == (128, 192)
    assert "epochs=1 " in manifest.provenance.recipe
    assert not manifest.routing.groups
    assert not manifest.routing.geometries


def status_of(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process: importing torch anew each time would take seconds."""
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_a_store_that_cannot_teach_ends_with_1_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--store", tmp_path / "no", "--task", "quality", "--out", tmp_path / "q.onnx")
    assert status_of(monkeypatch, "finetune", *arguments) == 1
    assert "no weak-label store" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--task", "guess", "--out", "q.onnx"), "guess"),
        (("--task", "quality", "--out", "q.pt", "--store", "s"), "end in .onnx"),
        (("--task", "quality", "--out", "q.onnx", "--store", "s", "--groups", "lung"), "'lung'"),
        (("--task", "quality", "--out", "q.onnx", "--store", "s", "--name", "A b"), "'A b'"),
        (("--task", "quality", "--out", "q.onnx", "--store", "s", "--epochs", 0), "epochs is 0"),
    ],
)
def test_wrong_use_ends_with_2_and_says_the_value(
    arguments: tuple[object, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status_of(monkeypatch, "finetune", *arguments) == 2
    assert words in capsys.readouterr().err


def test_help_shows_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(monkeypatch, "finetune", "--help") == 0
    assert "Example: python -m training finetune --store" in capsys.readouterr().out

"""What a command says when it cannot work: the value, the cure, and nothing half-written."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.commands import SMALL, status_of
from training import tasks

FINETUNE = ("finetune", "--task", "quality", "--out", "run", *SMALL)
FOLDS = ("folds", "pocus_small", "--index", "index.csv", "--out", "table")
DETECT = ("detect", "--labels", "liver-kidney", "--heads", "slim", "--out", "run", *SMALL[:-2])
PRETRAIN = ("pretrain", "--recipe", "ce", "--out", "run", *SMALL)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("finetune", "--task", "guess", "--out", "r"), "guess"),
        ((*FINETUNE, "--bundle", "q.pt"), "end in .onnx"),
        ((*FINETUNE, "--height", "100"), "--height: 100 will not do"),
        ((*PRETRAIN, "--epochs", "0"), "--epochs: 0 will not do"),
        ((*PRETRAIN, "--batch-size", "1"), "--batch-size: 1 will not do"),
        ((*PRETRAIN, "--devices", "0"), "--devices: 0 will not do"),
        ((*PRETRAIN, "--recipe", "magic"), "magic"),
        ((*PRETRAIN, "--recipe", "baseline"), "needs no pretraining"),
        ((*PRETRAIN, "--store", "s", "--pack", "p"), "drop one"),
        ((*FINETUNE, "--store", "s", "--config", "none.yaml", "--pack", "p"), "drop one"),
        ((*FOLDS, "--seeds", "0,one"), "--seeds: '0,one' will not do"),
        ((*FOLDS, "--seeds", "1,1"), "--seeds: '1,1' will not do"),
        (("export", "run", "--out", "q.onnx", "--groups", "lung"), "'lung'"),
        (("export", "run", "--out", "q.onnx", "--sites", "spleen"), "'spleen'"),
    ],
)
def test_wrong_use_ends_with_2_and_says_the_value(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*arguments) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*FINETUNE, "--store", "absent"), "no weak-label store"),
        ((*PRETRAIN, "--pack", "absent"), "no pack here"),
        (("evaluate", "absent"), "no run here"),
        (("export", "absent", "--out", "q.onnx"), "no run here"),
    ],
)
def test_what_is_not_there_ends_with_1_and_one_sentence(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*arguments) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    assert status_of(*FINETUNE, "--store", phantom_store, "--out", "file/run") == 1
    assert "file/run: Not a directory" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_recipe_with_an_unknown_key_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\npretext: tags\ncolour: blue\n")
    assert status_of(*PRETRAIN, "--recipe", "mine.yaml") == 2
    assert "mine.yaml: colour: unknown key" in capsys.readouterr().err


def test_labels_that_nobody_has_are_answered_with_those_that_there_are(
    phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--store", phantom_store, "--task", "segmentation", "--labels", "fetal-head")
    assert status_of(*FINETUNE, *words) == 1
    assert "there are liver-kidney (" in capsys.readouterr().err
    assert status_of(*FINETUNE, "--store", phantom_store, "--task", "classification") == 1
    assert "none with a class; import labels first" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_the_node_does_not_serve_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--task", "classification", "--bundle", "c.onnx")
    assert status_of(*FINETUNE, *words) == 2
    assert "the node serves segmentation and quality only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Hungry(nn.Module):
    """An encoder on a device with room for so many frames."""

    def __init__(self, encoder: nn.Module, room: int) -> None:
        super().__init__()
        self.encoder, self.room = encoder, room
        self.in_channels, self.channels = encoder.in_channels, encoder.channels
        self.strides = encoder.strides

    def forward(self, frames: Tensor) -> list[Tensor]:
        if len(frames) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        features: list[Tensor] = self.encoder(frames)
        return features


@pytest.mark.parametrize(
    ("room", "words"),
    [(5, "no room for --batch-size 16; 4 fits: take --batch-size 4"), (1, "nor for any smaller")],
)
@pytest.mark.parametrize(
    "command", [FINETUNE, PRETRAIN, DETECT], ids=["finetune", "pretrain", "detect"]
)
def test_a_gpu_that_runs_out_of_memory_is_answered_with_the_batch_that_fits(
    command: tuple[str, ...],
    room: int,
    words: str,
    phantom_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build = tasks.encoders.build

    def hungry(name: str, *, width: int = 16) -> nn.Module:
        return Hungry(build(name, width=width), room)

    monkeypatch.setattr(tasks.encoders, "build", hungry)
    assert status_of(*command, "--store", phantom_store, "--batch-size", 16) == 1
    assert words in capsys.readouterr().err
    monkeypatch.setattr(tasks.encoders, "build", build)
    # what began with a batch that did not fit is begun with one that does
    assert status_of(*command, "--store", phantom_store, "--batch-size", 4) == 0

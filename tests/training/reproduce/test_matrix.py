from pathlib import Path

import pytest
import yaml

from dicom_node.errors import ConfigError
from tests.support.matrices import values
from training.config import EncoderName
from training.reproduce import matrix
from training.reproduce.cells import plan
from training.reproduce.matrix import TaskSettings


def written(folder: Path, **changes: object) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    return str(path)


@pytest.mark.parametrize("name", ["clips", "full", "paper", "small"])
def test_shipped_matrices_can_be_laid_out(name: str) -> None:
    assert name in matrix.names()
    assert plan(matrix.load(name)).cells


def test_a_matrix_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="give one of clips, full, paper, small"):
        matrix.load("huge")


def test_an_unknown_key_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bootstrap: unknown key; known here: .*bootstraps"):
        matrix.load(written(tmp_path, bootstrap=5))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [0, 0]}, "seeds: one is named twice"),
        ({"options": {"ce": {}}}, "options: 'ce' is none of the strategies; add it"),
        ({"compare": [["ce", "baseline"]]}, "'ce' is none of the strategies; add it"),
        ({"shares": [0.5, 1.0], "tasks": {"q": {"task": "quality", "epochs": {1.0: 2}}}},
         r"tasks\.q\.epochs: gives none for 0\.5; add it"),
        ({"tasks": {"organs": {"task": "segmentation", "epochs": 2}}}, "name a label set"),
        ({"paper": [{"strategy": "ce", "encoder": "small", "task": "quality", "share": 1.0,
                     "value": 0.5, "source": "v1"}]}, "ce, quality: no cell of this matrix"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_said(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        matrix.load(written(tmp_path, **changes))


def test_a_task_has_a_rate_for_each_encoder_and_epochs_for_each_share() -> None:
    task = TaskSettings.model_validate(
        {
            "task": "quality",
            "learning_rate": {"vgg16_bn": 1e-4, "resnet50": 5e-5},
            "epochs": {0.05: 40, 1.0: 4},
        }
    )
    assert task.learning_rate_of(EncoderName.RESNET50) == 5e-5
    assert task.epochs_of(0.05) == 40


def test_the_papers_settings_are_those_of_the_second_version() -> None:
    paper = matrix.load("paper")
    vgg, resnet = EncoderName.VGG16_BN, EncoderName.RESNET50
    assert paper.encoders == (vgg, resnet)
    assert str(paper.size) == "256x384"
    assert paper.pretrain.epochs == 200
    assert [paper.tasks[t].epochs_of(1.0) for t in ("quality", "liver-kidney")] == [300, 500]
    assert paper.tasks["liver-kidney"].learning_rate_of(resnet) == 5e-5
    assert paper.tasks["liver-kidney"].learning_rate_of(vgg) == 1e-4
    assert paper.bootstraps == 1000


def test_the_papers_pair_of_numbers_at_5_percent_stands_in_its_cells() -> None:
    numbers = {(n.strategy, n.task, n.share): n.value for n in matrix.load("paper").paper}
    assert numbers["dcm", "quality", 0.05] == 0.426
    assert numbers["ce", "quality", 0.05] == 0.387

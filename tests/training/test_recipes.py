from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from training import recipes
from training.config import FinetuneSettings, PretrainSettings, Strategy


def test_every_shipped_recipe_can_be_read_and_bears_the_name_of_its_file() -> None:
    assert {recipes.load(name).name for name in recipes.names()} == set(recipes.names())
    assert {"baseline", "imagenet", "dcm", "ce", "ce_dcm", "ce_dcm_log"} <= set(recipes.names())


def test_a_recipe_of_ones_own_is_named_by_its_path(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: own\npretext: context_encoder\noptions: {tags: false}\n")
    assert recipes.load(str(own)) == Strategy(
        name="own", pretext="context_encoder", options={"tags": False}
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: own\nepoch: 3\n", "epoch: unknown key; known here: name, pretext"),
        ("pretext: tags\n", "name: missing; add it"),
        ("name: own\nweights: best\n", "weights: 'best' will not do"),
        ("name: own\noptions: {tags: true}\n", "name the pretext or drop them"),
        ("name: own\npretext: tags\nweights: imagenet\n", "drop 'weights'"),
        ("- name\n", "expected 'key: value' lines"),
        ("name: [\n", "not YAML"),
        ("name: own\n# \x1b[0m\n", "own.yaml:2: holds the control character '\\x1b'"),
    ],
)
def test_a_fault_in_a_recipe_is_told_with_its_place_and_cure(
    tmp_path: Path, text: str, sentence: str
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=r"own\.yaml") as told:
        recipes.load(str(own))
    assert sentence in str(told.value)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'best': give one of baseline, ce, ce_dcm"):
        recipes.load("best")


def test_defaults_are_those_of_the_second_version_of_the_paper() -> None:
    settings = PretrainSettings(strategy=recipes.load("ce_dcm"))
    assert (settings.size.height, settings.size.width) == (256, 384)
    assert (settings.epochs, settings.batch_size) == (200, 32)
    assert (settings.learning_rate, settings.discriminator_learning_rate) == (1e-4, 1e-5)
    assert FinetuneSettings(task="quality").positive_weight == 2.0

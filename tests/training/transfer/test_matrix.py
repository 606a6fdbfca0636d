from pathlib import Path

import pytest
import yaml

from dicom_node.errors import ConfigError
from tests.support.transfer import table, values
from training.commands.presets import DETECT
from training.folds import matrix as folds
from training.transfer.matrix import load, names

WANTED = ("baseline", "imagenet", "supervised", "simclr", "moco_v2", "uscl", "ce")


@pytest.mark.parametrize("name", ["lesions", "lesions_small"])
def test_shipped_tables_have_every_start_and_say_how_long_it_is_pretrained(name: str) -> None:
    assert name in names()
    found = load(name)
    assert found.strategies == WANTED
    for each in found.strategies:
        strategy = found.strategy(each)
        if strategy.pretext is not None:
            assert found.pretraining(each, strategy, 0).epochs
    assert len(found.seeds) > 1


def test_the_full_table_trains_detectors_as_the_command_does_without_options() -> None:
    found = load("lesions").detecting(2)
    assert {key: getattr(found, key) for key in DETECT} == DETECT
    assert (found.heads, found.seed, found.labels) == ("full", 2, "breast-lesion")


@pytest.mark.parametrize(("name", "of"), [("lesions", "pocus"), ("lesions_small", "pocus_small")])
def test_encoders_are_pretrained_as_in_the_table_over_folds(name: str, of: str) -> None:
    ours, theirs = load(name), folds.load(of)
    for each in ours.strategies:
        strategy = ours.strategy(each)
        if strategy.pretext is not None:
            wanted = theirs.pretraining(each, theirs.strategy(each), 0)
            assert ours.pretraining(each, strategy, 0) == wanted
    assert (ours.validation, ours.most_frames) == (theirs.validation, theirs.most_frames)


def test_a_table_that_will_not_do_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values(finetune={})))
    with pytest.raises(ConfigError, match="finetune: unknown key; known here: name, title"):
        load(str(path))
    with pytest.raises(ConfigError, match="give one of lesions, lesions_small"):
        load("lesions_huge")


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values()))
    assert load(str(path)) == table()

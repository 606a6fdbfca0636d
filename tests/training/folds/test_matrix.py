from pathlib import Path

import pytest
import yaml

from dicom_node.errors import ConfigError
from tests.support.folds import table, values
from training.folds.matrix import load, names


@pytest.mark.parametrize("name", ["pocus", "pocus_small"])
def test_shipped_tables_say_how_long_every_strategy_is_pretrained(name: str) -> None:
    assert name in names()
    found = load(name)
    for each in found.strategies:
        strategy = found.strategy(each)
        if strategy.pretext is not None:
            assert found.pretraining(each, strategy, 0).epochs
    for number in ("84.2", "86.4", "94.2", "94.6"):
        assert number in found.caption


def test_the_full_table_has_epochs_batches_and_rates_of_the_published_code() -> None:
    full = load("pocus")
    uscl = full.pretraining("uscl", full.strategy("uscl"), 2)
    assert (uscl.encoder, str(uscl.size), uscl.seed) == ("resnet18", "224x224", 2)
    assert (uscl.epochs, uscl.batch_size, uscl.learning_rate) == (300, 32, 3e-4)
    assert uscl.strategy.options == {"labels": "lung", "labelled": 1.0}  # the rest is the paper's
    last = full.finetuning("last", 2)
    assert (last.last_block, last.encoder, str(last.size)) == (True, "resnet18", "224x224")
    assert (last.epochs, last.batch_size, last.learning_rate) == (100, 32, 1e-2)
    assert not full.finetuning("all", 2).last_block
    assert full.seeds == (0, 1, 2)
    assert full.most_frames is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategies": ["uscl", "uscl"]}, "one is named twice"),
        ({"options": {"simclr": {}}}, "'simclr' is none of the strategies"),
        ({"seed": 1}, "unknown key; known here: name, title"),
    ],
)
def test_a_table_that_will_not_do_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    with pytest.raises(ConfigError, match=says):
        load(str(path))


def test_a_strategy_without_epochs_is_named() -> None:
    found = table(pretrain={"epochs": {"ce": 1}})
    with pytest.raises(ConfigError, match="gives none for uscl; add it"):
        found.pretraining("uscl", found.strategy("uscl"), 0)
    with pytest.raises(ConfigError, match="give one of pocus, pocus_lite, pocus_small"):
        load("pocus_huge")

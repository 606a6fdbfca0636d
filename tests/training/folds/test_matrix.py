from pathlib import Path

import pytest
import yaml

from dicom_node.errors import ConfigError
from tests.support.folds import table, values
from training.folds.matrix import load, names


@pytest.mark.parametrize("name", names())
def test_shipped_tables_say_how_long_every_strategy_is_pretrained(name: str) -> None:
    found = load(name)
    for each in found.strategies:
        strategy = found.strategy(each)
        if strategy.pretext is not None:
            assert found.pretraining(each, strategy, 0).epochs


@pytest.mark.parametrize("name", ["pocus", "pocus_lite", "pocus_small"])
def test_tables_of_the_papers_rows_quote_its_numbers(name: str) -> None:
    found = load(name)
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


@pytest.mark.parametrize("name", ["pocus", "pocus_small"])
def test_the_table_of_labels_differs_from_the_whole_one_in_the_share_of_labels_alone(
    name: str,
) -> None:
    whole, shares = load(name), load(name.replace("pocus", "pocus_labels"))
    same = ("size", "encoder", "encoder_width", "finetune", "seeds", "validation", "most_frames")
    assert [getattr(shares, key) for key in same] == [getattr(whole, key) for key in same]
    uscl = whole.pretraining("uscl", whole.strategy("uscl"), 1)
    for row, share in {"uscl_0": 0, "uscl_1": 0.01, "uscl_10": 0.1, "uscl": 1.0}.items():
        found = shares.pretraining(row, shares.strategy(row), 1)
        options = uscl.strategy.options | {"labelled": share}
        strategy = uscl.strategy.model_copy(update={"name": row, "options": options})
        assert found == uscl.model_copy(update={"strategy": strategy})
    for row in ("supervised", "baseline"):
        assert shares.strategy(row) == whole.strategy(row)


def test_a_recipe_stands_in_several_rows_each_under_a_name_of_its_own() -> None:
    found = table(
        strategies=["uscl", "half"],
        recipes={"half": "uscl"},
        options={"half": {"labelled": 0.5}},
    )
    assert found.strategy("half").name == "half"
    assert found.strategy("half").options == {"labels": "groups", "labelled": 0.5}
    assert found.strategy("uscl").options == {"labels": "groups", "labelled": 1.0}


def test_a_row_that_has_no_recipe_or_one_without_options_is_named() -> None:
    found = table(strategies=["half"], recipes={"half": "usc"}, options={})
    with pytest.raises(ConfigError, match="no recipe 'usc': give one of baseline, ce"):
        found.strategy("half")
    found = table(options={"baseline": {"labelled": 0.5}})
    with pytest.raises(ConfigError, match=r"options\.baseline: options are those of a pretext"):
        found.strategy("baseline")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"strategies": ["uscl", "uscl"]}, "one is named twice"),
        ({"seeds": [1, 1]}, "seeds: one is named twice"),
        ({"options": {"simclr": {}}}, "options: 'simclr' is none of the strategies"),
        ({"recipes": {"half": "uscl"}}, "recipes: 'half' is none of the strategies; add it"),
        ({"strategies": ["my/own.yaml"], "options": {}},
         "'my/own.yaml' will not do: a folder is named so; write a short name, and 'recipes: {NA"),
        ({"seed": 1}, "unknown key; known here: name, title"),
    ],
)  # fmt: skip
def test_a_table_that_will_not_do_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values(**changes)))
    with pytest.raises(ConfigError, match=says) as told:
        load(str(path))
    assert "Nothing of this is a result" not in str(told.value)  # the whole file is no value


def test_a_strategy_without_epochs_is_named() -> None:
    found = table(pretrain={"epochs": {"ce": 1}})
    with pytest.raises(ConfigError, match="gives none for uscl; add it"):
        found.pretraining("uscl", found.strategy("uscl"), 0)
    with pytest.raises(ConfigError, match=r"give one of pocus, .*, pocus_small"):
        load("pocus_huge")

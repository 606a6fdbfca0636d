import pytest

from dicom_node.errors import ConfigError
from tests.support.matrices import tiny


def test_cells_have_names_of_their_own() -> None:
    layout = tiny(shares=[0.05, 1.0])
    names = [cell.name for cell in layout.cells]
    assert len(set(names)) == len(names) == 1 + 2 * 2 * 2
    assert names[0] == "pretrain/small/ce_dcm/seed-0"
    assert "finetune/quality/small/ce_dcm/5-percent/seed-1" in names


def test_pretraining_comes_first_and_is_shared_by_all_that_start_from_it() -> None:
    layout = tiny(strategies=["baseline", "ce_dcm", "ce_dcm+F", "imagenet"])
    assert layout.cells[0] == layout.pretrain[0]
    assert len(layout.pretrain) == 1
    starts = {cell.strategy: cell.start for cell in layout.finetune}
    assert starts["ce_dcm"] == starts["ce_dcm+F"] == layout.pretrain[0]
    assert starts["baseline"] is starts["imagenet"] is None


def test_frozen_strategies_freeze_and_others_do_not() -> None:
    layout = tiny(strategies=["ce_dcm", "ce_dcm+F"], compare=[])
    assert {cell.strategy: cell.settings.freeze for cell in layout.finetune} == {
        "ce_dcm": False,
        "ce_dcm+F": True,
    }


def test_several_pretrainings_take_turns() -> None:
    layout = tiny(seeds=[0, 1, 2], pretrain_seeds=[7, 8])
    found = {c.settings.seed: c.start.settings.seed for c in layout.finetune if c.start}
    assert found == {0: 7, 1: 8, 2: 7}


def test_a_recipe_in_several_rows_is_pretrained_for_each_in_a_folder_of_its_name() -> None:
    layout = tiny(
        strategies=["baseline", "uscl", "few", "few+F"],
        recipes={"few": "uscl"},
        options={"few": {"labelled": 0.1}},
        compare=[["few", "few+F"]],
        seeds=[0],
    )
    shares = {c.name: c.settings.strategy.options["labelled"] for c in layout.pretrain}
    assert shares == {"pretrain/small/uscl/seed-0": 1.0, "pretrain/small/few/seed-0": 0.1}
    starts = {c.strategy: c.start.name for c in layout.finetune if c.start}
    assert starts["few"] == starts["few+F"] == "pretrain/small/few/seed-0"
    assert "finetune/quality/small/few+F/100-percent/seed-0" in {c.name for c in layout.finetune}


def test_seeds_are_the_outermost_so_that_a_part_compares_like_with_like() -> None:
    seeds = [cell.settings.seed for cell in tiny(shares=[0.5, 1.0]).finetune]
    assert seeds == sorted(seeds)


def test_a_strategy_without_a_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="no recipe 'magic'"):
        tiny(strategies=["magic"], compare=[])

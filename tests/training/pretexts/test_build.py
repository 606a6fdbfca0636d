from pathlib import Path

import pytest

from dicom_node.errors import ConfigError
from training import pretexts, recipes
from training.config import PretrainSettings, Strategy


def test_a_strategy_without_a_pretext_is_for_fine_tuning_alone() -> None:
    with pytest.raises(ConfigError, match="'baseline' needs no pretraining"):
        pretexts.build(PretrainSettings(strategy=recipes.load("baseline")))


def test_an_unknown_pretext_is_answered_with_the_known_ones() -> None:
    strategy = Strategy(name="own", pretext="jigsaw")
    with pytest.raises(
        ConfigError, match="'jigsaw': there are context_encoder, moco, simclr, tags, uscl"
    ):
        pretexts.build(PretrainSettings(strategy=strategy))


def test_a_pretext_is_added_by_one_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jigsaw.py").write_text("def build(settings):\n    return settings.epochs\n")
    monkeypatch.setattr(pretexts, "__path__", [*pretexts.__path__, str(tmp_path)])
    strategy = Strategy(name="own", pretext="jigsaw")
    assert pretexts.build(PretrainSettings(strategy=strategy, epochs=7)) == 7

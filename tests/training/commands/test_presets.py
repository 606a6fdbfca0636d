from pathlib import Path

import pytest

pytest.importorskip("lightly", reason="pip install --group train")

from dicom_node.records import Task
from tests.support.clips import packed
from tests.support.commands import status_of
from training import detect, pretexts, recipes, runs
from training.commands.presets import DETECT, PRETRAIN, DetectPreset
from training.config import EncoderName, FinetuneSettings, PretrainSettings


def test_contrast_is_pretrained_as_its_paper_does_where_nobody_says_otherwise() -> None:
    assert set(PRETRAIN) == {"uscl", "simclr", "moco"} < set(pretexts.names())
    settings = PretrainSettings(strategy=recipes.load("uscl"), **PRETRAIN["uscl"])
    assert settings.encoder is EncoderName.RESNET18
    assert str(settings.size) == "224x224"
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (300, 32, 3e-4)


def test_an_option_stands_above_the_preset_of_a_recipe(tmp_path: Path) -> None:
    pack, run = packed(tmp_path), tmp_path / "run"
    words = f"pretrain --recipe simclr --pack {pack.folder} --out {run} --encoder small"
    size = "--height 64 --width 64 --encoder-width 4 --epochs 1 --batch-size 8 --accelerator cpu"
    assert status_of(*words.split(), *size.split()) == 0
    found = runs.read(run).settings
    assert isinstance(found, PretrainSettings)
    assert (found.encoder, found.epochs, found.batch_size) == (EncoderName.SMALL, 1, 8)
    assert found.learning_rate == 3e-4
    assert PretrainSettings(strategy=recipes.load("ce_dcm")).learning_rate == 1e-4


@pytest.mark.parametrize("preset", DetectPreset)
def test_a_detector_can_be_built_of_each_preset(preset: DetectPreset) -> None:
    settings = FinetuneSettings(
        task=Task.SEGMENTATION, labels="breast-lesion", **(dict(DETECT[preset]))
    )
    network = detect.build(settings, classes=2)
    side = settings.size.height
    [[smallest], *_, [largest]] = network.network.rpn.anchor_generator.sizes
    assert (smallest, largest) == (side // 16, side)
    network.freeze_early()
    is_kept = [not weight.requires_grad for weight in network.encoder.parameters()]
    assert any(is_kept) == (preset is DetectPreset.FULL)


def test_the_full_detector_is_trained_as_the_published_code_does() -> None:
    full = DETECT[DetectPreset.FULL]
    assert full["encoder"] is EncoderName.RESNET18
    assert (full["epochs"], full["batch_size"], full["learning_rate"]) == (30, 2, 0.005)

from pathlib import Path

import pytest

pytest.importorskip("lightly", reason="pip install --group train")

from dicom_node.records import Task
from tests.support.clips import packed
from tests.support.commands import status_of
from training import detect, pretexts, recipes, runs
from training.commands.presets import DETECT, PRETRAIN
from training.config import DetectSettings, EncoderName, PretrainSettings


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


def test_a_detector_is_trained_as_the_published_code_does_where_nobody_says_otherwise() -> None:
    settings = DetectSettings(task=Task.SEGMENTATION, labels="breast-lesion", **DETECT)
    assert settings.encoder is EncoderName.RESNET18
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (30, 2, 0.005)
    network = detect.build(settings, classes=1)
    assert network.network.backbone.out_channels == 256
    assert network.network.roi_heads.box_predictor.cls_score.in_features == 1024
    assert network.network.rpn.anchor_generator.sizes == ((16,), (32,), (64,), (128,), (256,))
    network.freeze_early()
    kept = [name for name, w in network.encoder.named_parameters() if not w.requires_grad]
    assert {name.split(".")[0] for name in kept} == {"conv1", "bn1", "layer1"}

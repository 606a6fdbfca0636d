from pathlib import Path

import pytest

from dicom_node.errors import StoreError
from dicom_node.records import Task
from tests.support.finetuning import fabric, settings
from training import runs
from training.detect import detect
from training.export import export
from training.pack import Pack

WANTED = settings(Task.SEGMENTATION, encoder_width=2, batch_size=4, learning_rate=0.005)


@pytest.fixture(scope="module")
def run(phantoms: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect") / "run"
    detect(WANTED, phantoms, fabric(), run=folder)
    return folder


def test_a_detector_is_trained_chosen_and_tested(run: Path) -> None:
    info = runs.read(run)
    assert info.kind == "detect"
    assert info.finished_at is not None
    measures = {f"test_{what}_{ap}" for what in ("box", "mask") for ap in ("ap", "ap50")}
    assert set(info.metrics) == measures | {"validation_dice"}
    assert (run / runs.NETWORK).exists()
    assert not (run / runs.CHECKPOINT).exists()


def test_a_finished_detector_is_not_trained_again(run: Path, phantoms: Pack) -> None:
    before = runs.read(run)
    assert detect(WANTED, phantoms, fabric(), run=run) == before


def test_a_detector_is_not_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a run of 'train detect' is not served"):
        export(run, tmp_path / "lesions.onnx")

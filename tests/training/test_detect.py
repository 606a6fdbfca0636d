from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StoreError
from dicom_node.records import Task
from tests.support.finetuning import SIZE, fabric, settings
from tests.support.packs import HEIGHT, WIDTH, Still, filled, patients
from training import pack as packs
from training import runs
from training.detect import detect
from training.export import export
from training.pack import Pack

LABELS = "breast-lesion"
WANTED = settings(
    Task.SEGMENTATION, labels=LABELS, encoder_width=2, batch_size=4, learning_rate=0.005
)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Noise with a block that is called a lesion in every other frame."""
    folder = tmp_path_factory.mktemp("lesions")
    block = np.zeros((HEIGHT, WIDTH), np.uint8)
    stills = []
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        for number, patient in enumerate(patients(split, count)):
            block[10:30, 20:45] = number % 2
            label = {"mask": block.copy(), "labels": LABELS}
            stills.append(Still(patient=patient, label=label))
    return packs.build(filled(folder / "store", stills), folder / "pack", SIZE)


@pytest.fixture(scope="module")
def run(lesions: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detect") / "run"
    detect(WANTED, lesions, fabric(), run=folder)
    return folder


def test_a_detector_is_trained_chosen_and_tested(run: Path) -> None:
    info = runs.read(run)
    assert info.kind == "detect"
    assert info.finished_at is not None
    measures = {f"test_{what}_{ap}" for what in ("box", "mask") for ap in ("ap", "ap50")}
    assert set(info.metrics) == measures | {"validation_dice"}
    assert (run / runs.NETWORK).exists()
    assert not (run / runs.CHECKPOINT).exists()


def test_a_finished_detector_is_not_trained_again(run: Path, lesions: Pack) -> None:
    before = runs.read(run)
    assert detect(WANTED, lesions, fabric(), run=run) == before


def test_a_detector_is_not_exported(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a run of 'train detect' is not served"):
        export(run, tmp_path / "lesions.onnx")

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from dicom_node.errors import ConfigError, StoreError
from dicom_node.phantom.study import StudySpec, ViewSpec, cohort
from dicom_node.records import Task
from dicom_node.store import WeakLabelStore
from tests.support.phantoms import fill_store
from training import checkpoint
from training.config import FinetuneSettings
from training.finetune import Finetuned, finetune
from training.loop import Epoch


def settings(store: Path, task: Task = Task.QUALITY) -> FinetuneSettings:
    return FinetuneSettings(
        store=store, task=task, epochs=1, height=64, width=96, encoder_width=4, batch_size=8
    )


def tuned(wanted: FinetuneSettings) -> Finetuned:
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    epochs: list[Epoch] = []
    result = finetune(wanted, fabric, epochs.append)
    assert len(epochs) == wanted.epochs
    return result


def one_view_each(store: Path, quality: int, patients: int = 12) -> Path:
    views = (ViewSpec(quality=quality),)
    fill_store(store, [StudySpec(seed=0, patient=n, views=views) for n in range(patients)])
    return store


@pytest.mark.parametrize("task", list(Task))
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    phantom_store: Path, task: Task
) -> None:
    wanted = settings(phantom_store, task)
    one, same, other = (tuned(replace(wanted, seed=seed)) for seed in (3, 3, 4))
    names = one.network.state_dict()
    assert all(torch.equal(names[k], v) for k, v in same.network.state_dict().items())
    assert one.metrics == same.metrics
    assert not all(torch.equal(names[k], v) for k, v in other.network.state_dict().items())


def test_training_sees_the_training_split_alone_and_both_others_are_measured(
    phantom_store: Path,
) -> None:
    result = tuned(settings(phantom_store))
    with WeakLabelStore(phantom_store) as store:
        assert result.training_frames == len(store.frames(split="train")) < len(store.frames())
        assert result.store_version == store.version()
        validation = len(store.frames(split="validation"))
    assert {"validation_accuracy", "test_accuracy"} <= result.metrics.keys()
    assert result.sample.shape == (min(16, validation), 1, 64, 96)
    assert not result.network.training


def test_a_run_can_start_from_the_weights_of_another(phantom_store: Path, tmp_path: Path) -> None:
    first = tuned(settings(phantom_store))
    checkpoint.save(tmp_path / "first.pt", first.network.state_dict())
    wanted = replace(settings(phantom_store), start=tmp_path / "first.pt", learning_rate=1e-12)
    weights = tuned(wanted).network.head.score.weight
    assert torch.allclose(weights, first.network.head.score.weight, atol=1e-6)
    with pytest.raises(StoreError, match="no weights of this network"):
        tuned(replace(wanted, task=Task.SEGMENTATION))


def test_a_folder_without_a_store_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no weak-label store"):
        tuned(settings(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_an_empty_store_asks_for_a_harvest(tmp_path: Path) -> None:
    WeakLabelStore(tmp_path).close()
    with pytest.raises(StoreError, match=r"holds 0 frames.*harvest studies first"):
        tuned(settings(tmp_path))


def test_a_store_without_labels_asks_for_labels(tmp_path: Path) -> None:
    fill_store(tmp_path, cohort(seed=0, patients=2, stills=1), labelled=False)
    with pytest.raises(StoreError, match="holds 2 frames and none has a mask; import labels"):
        tuned(settings(tmp_path, Task.SEGMENTATION))


def test_one_patient_is_not_enough(tmp_path: Path) -> None:
    fill_store(tmp_path, cohort(seed=0, patients=1))
    with pytest.raises(StoreError, match=r"1 patient\(s\) have frames with a quality score"):
        tuned(settings(tmp_path))


def test_one_score_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="have the quality score 2; label frames of other scores"):
        tuned(settings(one_view_each(tmp_path, 2)))


def test_masks_without_an_organ_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"shows liver \(1\) and kidney \(2\)"):
        tuned(settings(one_view_each(tmp_path, 0), Task.SEGMENTATION))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"height": 32}, "64"),
    ],
)
def test_impossible_settings_say_what_would_do(change: dict[str, int], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        replace(settings(Path("store")), **change)


@pytest.mark.slow
def test_organs_are_learned_from_few_phantoms(phantom_store: Path) -> None:
    wanted = replace(
        settings(phantom_store, Task.SEGMENTATION), epochs=15, learning_rate=5e-3, encoder_width=8
    )
    scores = tuned(wanted).metrics
    # an answer of background alone would have 0, one of liver alone 0.5 at most
    assert scores["validation_dice"] > 0.6, scores


@pytest.mark.slow
def test_the_view_quality_is_learned_from_few_phantoms(phantom_store: Path) -> None:
    wanted = replace(settings(phantom_store), epochs=30, learning_rate=5e-3, encoder_width=8)
    scores = tuned(wanted).metrics
    # saying the same score always would be off by more than 1 on average
    assert scores["validation_absolute_error"] < 0.8, scores

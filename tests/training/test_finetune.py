import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import ConfigError, StoreError
from dicom_node.records import Task
from models import encoders
from tests.support.finetuning import SIZE, fabric, settings, with_classes, with_columns
from tests.support.launching import launch_module
from tests.support.packs import Still, filled, patients
from tests.support.watched import agree
from training import pack, runs
from training.config import FinetuneSettings
from training.finetune import SAMPLE_FRAMES, finetune
from training.loop import Epoch, Plan
from training.pack import Pack
from training.runs import RunInfo


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    built = pack.build(phantom_store, tmp_path_factory.mktemp("packs") / "pack", SIZE)
    return with_classes(built)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return runs.load_state(run / runs.NETWORK)


def tuned(wanted: FinetuneSettings, frames: Pack, run: Path, **more: object) -> RunInfo:
    return finetune(wanted, frames, fabric(), run=run, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", list(Task))
def test_a_run_leaves_weights_scores_and_what_it_was(
    phantoms: Pack, tmp_path: Path, task: Task
) -> None:
    told: list[Epoch] = []
    info = tuned(settings(task), phantoms, tmp_path / "run", after_epoch=told.append)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"run.json", "network.pt", "scores.npz", "sample.npy"}
    assert info == runs.read(tmp_path / "run")
    assert info.finished_at is not None
    assert (info.start, info.store_version) == ("random", phantoms.store_version)
    assert info.metrics["validation_loss"] == pytest.approx(told[0].validation["loss"], abs=1e-6)
    test = phantoms.select(split="test", labelled=task)
    scores = np.load(tmp_path / "run" / "scores.npz")
    assert np.array_equal(scores["frame_id"], phantoms.rows.frame_id[test])
    assert np.array_equal(scores["patient"], phantoms.rows.patient[test])
    measure = "dice" if task is Task.SEGMENTATION else "accuracy"
    assert info.metrics[f"test_{measure}"] == pytest.approx(np.nanmean(scores[measure]), abs=1e-6)
    sample = np.load(tmp_path / "run" / "sample.npy")
    validation = phantoms.select(split="validation", labelled=task)
    assert sample.shape == (min(SAMPLE_FRAMES, len(validation)), 1, SIZE.height, SIZE.width)
    assert np.array_equal(sample[0, 0], phantoms.frames[validation[0]])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    phantoms: Pack, tmp_path: Path
) -> None:
    one, same, other = (
        (tuned(settings(seed=seed), phantoms, tmp_path / name), weights(tmp_path / name))
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    )
    assert all(torch.equal(one[1][name], value) for name, value in same[1].items())
    assert one[0].metrics == same[0].metrics
    assert not all(torch.equal(one[1][name], value) for name, value in other[1].items())


def test_training_sees_a_share_of_the_training_patients_alone(
    phantoms: Pack, tmp_path: Path
) -> None:
    whole = tuned(settings(), phantoms, tmp_path / "whole")
    part = tuned(settings(share=0.2), phantoms, tmp_path / "part")
    train = phantoms.select(split="train", labelled=Task.QUALITY)
    assert whole.training_frames == len(train)
    assert 0 < part.training_frames < 0.5 * len(train)


def test_a_finished_run_is_returned_and_learns_nothing_more(phantoms: Pack, tmp_path: Path) -> None:
    told: list[Epoch] = []
    first = tuned(settings(), phantoms, tmp_path / "run")
    assert tuned(settings(), phantoms, tmp_path / "run", after_epoch=told.append) == first
    assert not told


def test_a_folder_of_other_settings_or_of_something_else_is_left_alone(
    phantoms: Pack, tmp_path: Path
) -> None:
    tuned(settings(), phantoms, tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run with epochs 1, not 2"):
        tuned(settings(epochs=2), phantoms, tmp_path / "run")
    assert all(torch.equal(before[n], value) for n, value in weights(tmp_path / "run").items())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something that is no run"):
        tuned(settings(), phantoms, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["precious.txt"]


def test_weights_that_do_not_fit_leave_no_folder(phantoms: Pack, tmp_path: Path) -> None:
    runs.save(tmp_path / "encoder.pt", encoders.build("small", width=8).state_dict())
    with pytest.raises(StoreError, match="the weights of another network"):
        tuned(settings(), phantoms, tmp_path / "run", start=tmp_path / "encoder.pt")
    assert not (tmp_path / "run").exists()


def test_a_random_encoder_is_frozen_with_the_statistics_of_training_frames(
    phantoms: Pack, tmp_path: Path
) -> None:
    tuned(settings(freeze=True, epochs=1), phantoms, tmp_path / "run")
    means = {n: v for n, v in weights(tmp_path / "run").items() if n.endswith("running_mean")}
    of_encoder = [value for name, value in means.items() if name.startswith("encoder.")]
    assert of_encoder
    assert all(value.abs().max() > 0 for value in of_encoder)


@pytest.mark.parametrize("task", list(Task))
def test_a_frozen_encoder_leaves_as_it_came(phantoms: Pack, tmp_path: Path, task: Task) -> None:
    torch.manual_seed(5)
    encoder = encoders.build("small", width=4)
    for module in encoder.modules():  # statistics that are not those of a new network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    runs.save(tmp_path / "encoder.pt", encoder.state_dict())
    for freeze in (True, False):
        run = tmp_path / f"freeze-{freeze}"
        wanted = settings(task, freeze=freeze, epochs=2)
        info = tuned(wanted, phantoms, run, start=tmp_path / "encoder.pt")
        assert info.start.startswith("encoder.pt sha256:")
        kept = weights(run)
        same = [torch.equal(v, kept[f"encoder.{n}"]) for n, v in encoder.state_dict().items()]
        assert all(same) if freeze else not any(same)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_processes_fine_tune_as_one_does(tmp_path: Path) -> None:
    classes = ("breast/benign", "breast/malignant", "breast/normal")
    stills = [
        Still(patient=patient, label={"class_name": classes[number % 3]})
        for split, count in (("train", 12), ("validation", 4), ("test", 3))
        for number, patient in enumerate(patients(split, count))
    ]
    packed = pack.build(filled(tmp_path / "store", stills), tmp_path / "pack", SIZE)
    books = {}
    for devices in (1, 2):
        out, book = tmp_path / f"run-{devices}", tmp_path / f"book-{devices}"
        book.mkdir()
        words = f"finetune --task classification --pack {packed.folder} --out {out}"
        size = "--encoder small --encoder-width 4 --height 64 --width 64 --epochs 2 --batch-size 6"
        where = f"--accelerator cpu --precision 32-true --devices {devices}"
        launch_module("tests.support.watched", book, *f"{words} {size} {where}".split())
        books[devices] = [runs.load_state(book / f"{rank}.pt") for rank in range(devices)]
    (alone,), (one, two) = books[1], books[2]
    assert agree(alone["first"][0], one["first"][0])
    assert all(torch.equal(w, o) for w, o in zip(one["last"][0], two["last"][0], strict=True))
    apart, together = (runs.read(tmp_path / f"run-{devices}") for devices in (1, 2))
    assert together.finished_at is not None
    assert together.metrics == pytest.approx(apart.metrics, rel=1e-2, abs=1e-3)


def test_one_cycle_ends_near_zero_and_constant_stays(phantoms: Pack, tmp_path: Path) -> None:
    for pace in ("constant", "one_cycle"):
        told: list[Epoch] = []
        wanted = settings(pace=pace, epochs=2, learning_rate=1e-2)
        tuned(wanted, phantoms, tmp_path / pace, after_epoch=told.append)
        last = told[-1].learning_rate
        assert last == 1e-2 if pace == "constant" else last < 1e-3


def killed_after(number: int) -> Callable[[Epoch], None]:
    def after_epoch(epoch: Epoch) -> None:
        if epoch.number == number:
            raise KeyboardInterrupt

    return after_epoch


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    phantoms: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # short epochs leave no checkpoint of their own accord
    monkeypatch.setattr("training.finetune.Plan", partial(Plan, checkpoint_s=0.0))
    wanted = settings(pace="one_cycle", epochs=3, learning_rate=1e-2)
    whole = tuned(wanted, phantoms, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tuned(wanted, phantoms, tmp_path / "run", after_epoch=killed_after(2))
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    told: list[Epoch] = []
    assert tuned(wanted, phantoms, tmp_path / "run", after_epoch=told.append).metrics == (
        whole.metrics
    )
    assert len(told) == 3
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(expected[n], value) for n, value in weights(tmp_path / "run").items())
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_without_a_test_patient_there_are_no_scores_and_the_run_still_ends(
    phantoms: Pack, tmp_path: Path
) -> None:
    nobody = with_columns(phantoms, split=np.minimum(phantoms.rows.split, 1))
    info = tuned(settings(), nobody, tmp_path / "run")
    assert not [name for name in info.metrics if name.startswith("test_")]
    assert len(np.load(tmp_path / "run" / "scores.npz")["accuracy"]) == 0


def test_what_a_run_was_is_json_that_a_person_can_read(phantoms: Pack, tmp_path: Path) -> None:
    tuned(settings(), phantoms, tmp_path / "run")
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["settings"]["task"] == "quality"
    assert said["best_epoch"] == 1


@pytest.mark.slow
def test_organs_are_learned_from_few_phantoms(phantoms: Pack, tmp_path: Path) -> None:
    wanted = settings(
        Task.SEGMENTATION,
        epochs=15,
        learning_rate=5e-3,
        encoder_width=8,
        pace="one_cycle",
        cross_entropy=1.0,
    )
    scores = tuned(wanted, phantoms, tmp_path / "run").metrics
    # an answer of background alone would have 0, one of liver alone 0.5 at most
    assert scores["validation_dice"] > 0.6, scores


@pytest.mark.slow
def test_the_view_quality_is_learned_from_few_phantoms(phantoms: Pack, tmp_path: Path) -> None:
    wanted = settings(epochs=30, learning_rate=5e-3, encoder_width=8, pace="one_cycle")
    scores = tuned(wanted, phantoms, tmp_path / "run").metrics
    # saying the same score always would be off by more than 1 on average
    assert scores["validation_absolute_error"] < 0.8, scores

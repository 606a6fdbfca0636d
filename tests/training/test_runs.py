from pathlib import Path

import pytest
import torch
from torch import nn

from dicom_node.errors import ConfigError, StoreError
from training import recipes, runs
from training.config import (
    FinetuneSettings,
    PretrainSettings,
    SeriesSettings,
    VolumeSegmentSettings,
    VolumeSettings,
)
from training.runs import RunInfo


def info(**changes: object) -> RunInfo:
    settings = PretrainSettings.model_validate({"strategy": recipes.load("ce"), **changes})
    return RunInfo(kind="pretrain", settings=settings, store_version="a1b2")


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = FinetuneSettings(task="segmentation", labels="liver-kidney", share=0.05)
    run = RunInfo(kind="finetune", settings=settings, store_version="a1b2", start="ce")
    runs.write(tmp_path, run.finished(metrics={"test_dice": 0.5}))
    found = runs.read(tmp_path)
    assert found.settings == settings
    assert found.metrics == {"test_dice": 0.5}
    assert found.finished_at is not None


def test_a_run_begins_once_and_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ce"
    assert runs.begin(folder, info()).finished_at is None
    runs.write(folder, runs.read(folder).finished())
    assert runs.begin(folder, info()).finished_at is not None


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_folder_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, is_finished: bool
) -> None:
    begun = runs.begin(tmp_path / "ce", info(epochs=7))
    if is_finished:
        runs.write(tmp_path / "ce", begun.finished())
    else:
        (tmp_path / "ce" / runs.CHECKPOINT).touch()
    with pytest.raises(ConfigError, match="holds a run with epochs 7, not 8; name another folder"):
        runs.begin(tmp_path / "ce", info(epochs=8))
    assert runs.read(tmp_path / "ce").settings.epochs == 7


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_otherwise(tmp_path: Path) -> None:
    runs.begin(tmp_path / "ce", info(epochs=7))
    assert runs.begin(tmp_path / "ce", info(epochs=8)).settings.epochs == 8
    assert runs.read(tmp_path / "ce").settings.epochs == 8


def test_a_half_done_run_of_another_store_is_answered_with_its_pack(tmp_path: Path) -> None:
    runs.begin(tmp_path / "ce", info())
    assert runs.unfinished(tmp_path / "ce") is None
    (tmp_path / "ce" / runs.CHECKPOINT).touch()
    assert runs.unfinished(tmp_path / "ce") == info()
    other = info().model_copy(update={"store_version": "c3d4"})
    sentence = "store version a1b2, not c3d4; give --pack with the pack of that version, name"
    with pytest.raises(ConfigError, match=sentence):
        runs.begin(tmp_path / "ce", other)
    runs.write(tmp_path / "ce", info().finished())
    assert runs.unfinished(tmp_path / "ce") is None
    with pytest.raises(ConfigError, match="store version a1b2, not c3d4; name another folder"):
        runs.begin(tmp_path / "ce", other)


@pytest.mark.parametrize(
    ("kind", "settings", "cure"),
    [
        ("series", SeriesSettings(), "give --store with a copy of the store from before"),
        ("segment volumes", VolumeSegmentSettings(), "give --masks with the files of before"),
    ],
)
def test_volumes_have_no_packs_that_a_half_done_run_could_be_given(
    tmp_path: Path, kind: str, settings: VolumeSettings, cure: str
) -> None:
    begun = RunInfo.model_validate({"kind": kind, "settings": settings, "store_version": "a1b2"})
    runs.begin(tmp_path / "run", begun)
    (tmp_path / "run" / runs.CHECKPOINT).touch()
    other = begun.model_copy(update={"store_version": "c3d4"})
    with pytest.raises(ConfigError, match=f"store version a1b2, not c3d4; {cure}, name another"):
        runs.begin(tmp_path / "run", other)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something that is no run"):
        runs.begin(tmp_path, info())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_without_a_run_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no run here \(run\.json: No such file"):
        runs.read(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(StoreError, match=r"run\.json: damaged, or of another version"):
        runs.read(tmp_path)


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    runs.save(tmp_path / "weights.pt", first.state_dict())
    runs.load(tmp_path / "weights.pt", second)
    assert torch.equal(first.weight, second.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        (b"", "no weights"),
        (b"no checkpoint", "no weights"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "weights.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=sentence):
        runs.load(path, nn.Linear(3, 2))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    runs.save(tmp_path / "weights.pt", nn.Linear(3, 2).state_dict())
    with pytest.raises(StoreError, match="the weights of another network"):
        runs.load(tmp_path / "weights.pt", nn.Linear(4, 2))

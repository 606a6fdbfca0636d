"""Exports as a researcher meets them: made by one command, named as ``--pack`` in the others."""

import json
import shutil
from pathlib import Path

import pytest
from lightning_fabric import Fabric

from dicom_node.store import WeakLabelStore
from tests.support.commands import SMALL, status_of
from tests.support.frames import new_frame
from tests.support.s3 import SECRET, Storage
from training import recipes, runs
from training.config import PretrainSettings, Size
from training.loop import Epoch
from training.pack.cache import Cache
from training.pack.exported import open_export
from training.pretrain import pretrain

SIZE = Size(height=64, width=64)
SETTINGS = PretrainSettings(
    strategy=recipes.load("ce"), encoder="small", encoder_width=4, size=SIZE, epochs=2, batch_size=8
)
MAKE = ("--height", "64", "--width", "64", "--frames-per-shard", "4")


@pytest.fixture
def store(phantom_store: Path, tmp_path: Path) -> Path:
    """Folder of a store of this test's own."""
    return Path(shutil.copytree(phantom_store, tmp_path / "data" / "store"))


def shards(store: Path, to: object, *more: object) -> int:
    return status_of("shards", "--store", store, "--to", to, *MAKE, *more)


def learn(where: object, out: Path, *more: object) -> int:
    words = ("pretrain", "--recipe", "ce", "--pack", where, "--out", out, *SMALL, "--epochs", 2)
    return status_of(*words, *more)


def grow(store: Path) -> None:
    with WeakLabelStore(store) as opened:
        opened.add_frame(new_frame(seed=99, instance="9" * 32))


def half_done(where: str, run: Path, cache: Path) -> None:
    """Leave a run that was killed after its first epoch."""

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    found = open_export(where, SIZE, Cache(folder=cache, limit_bytes=2**30))
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    with pytest.raises(KeyboardInterrupt):
        pretrain(SETTINGS, found, fabric, run=run, after_epoch=stop)


def test_a_bucket_is_trained_from_and_a_killed_run_ends_as_if_nothing_had_happened(
    store: Path, tmp_path: Path, s3: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    where = s3.bucket("train") + "/ultrasound"
    assert shards(store, where) == 0
    assert f"{where}: " in (said := capsys.readouterr().out)
    assert " frames in " in said
    cache = ("--cache", tmp_path / "cache", "--cache-gib", "0.001")
    assert learn(where, tmp_path / "whole", *cache) == 0
    half_done(where, tmp_path / "killed", tmp_path / "cache")
    assert learn(where, tmp_path / "killed", *cache) == 0
    ends = [(tmp_path / name / runs.ENCODER).read_bytes() for name in ("whole", "killed")]
    assert ends[0] == ends[1]
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in kept)


def test_a_folder_of_exports_is_trained_from_and_gives_what_the_bucket_gives(
    store: Path, tmp_path: Path, s3: Storage
) -> None:
    where = s3.bucket("same-as-folder")
    for to in (where, tmp_path / "out"):
        assert shards(store, to) == 0
    for name, source in (("one", where), ("two", tmp_path / "out")):
        assert learn(source, tmp_path / name, "--cache", tmp_path / "cache") == 0
    ends = [(tmp_path / name / runs.ENCODER).read_bytes() for name in ("one", "two")]
    assert ends[0] == ends[1]


def test_labels_are_learned_from_shards_and_measured(store: Path, tmp_path: Path) -> None:
    assert shards(store, tmp_path / "out") == 0
    out = tmp_path / "run"
    words = ("finetune", "--task", "segmentation", "--pack", tmp_path / "out", "--out", out)
    assert status_of(*words, *SMALL) == 0
    assert "test_dice" in runs.read(out).metrics


def test_pairs_of_clips_are_drawn_from_shards(store: Path, tmp_path: Path) -> None:
    assert shards(store, tmp_path / "out") == 0
    words = ("pretrain", "--recipe", "simclr", "--pack", tmp_path / "out", "--out", tmp_path / "r")
    assert status_of(*words, *SMALL[2:], "--encoder", "resnet18") == 0


def test_the_command_given_again_exports_only_what_is_new(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = []
    for grows in (False, False, True):
        if grows:
            grow(store)
        assert shards(store, out, "--json") == 0
        said.append(json.loads(capsys.readouterr().out))
    first, again, newer = said
    assert (first["was_there"], again["was_there"], newer["was_there"]) == (False, True, False)
    assert newer["replaced"] == [first["export"]] == [again["export"]]
    assert newer["frames"] == first["frames"] + 1


def test_a_run_goes_on_with_the_export_that_it_began_with_and_says_so(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    assert shards(store, out) == 0
    half_done(str(out), run, tmp_path / "cache")
    began_with = runs.read(run).store_version
    grow(store)
    assert shards(store, out, "--keep-old") == 0
    capsys.readouterr()
    assert learn(out, run) == 0
    assert f"goes on with the frames of version {began_with}" in capsys.readouterr().out
    assert runs.read(run).store_version == began_with


def test_a_run_whose_export_was_replaced_is_refused_with_the_cure(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = tmp_path / "out", tmp_path / "run"
    assert shards(store, out) == 0
    half_done(str(out), run, tmp_path / "cache")
    grow(store)
    assert shards(store, out) == 0
    assert "was deleted; runs that read it begin anew" in capsys.readouterr().out
    assert learn(out, run) == 2
    assert "give --pack with the pack of that version" in capsys.readouterr().err


def test_shards_in_the_store_itself_are_refused(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shards(store, store / "shards") == 2
    assert "lies inside the store" in capsys.readouterr().err


def test_a_bucket_that_is_not_there_is_said_before_the_store_is_read(
    store: Path, s3: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shards(store, "s3://nobody-made-it") == 1
    assert "s3://nobody-made-it: no such bucket" in capsys.readouterr().err
    assert not (store.parent / "packs").exists()

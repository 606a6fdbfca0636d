import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from dicom_node.errors import StoreError
from dicom_node.phantom.study import cohort
from dicom_node.records import GROUPS, Geometry
from tests.conftest import REPOSITORY
from tests.support.finetuning import with_columns
from tests.support.launching import launch_module
from tests.support.packs import Still, filled, patients, pseudonym
from tests.support.phantoms import fill_store
from tests.support.watched import agree
from training import engine, pack, pretexts, recipes, runs
from training.config import Engine, PretrainSettings, Size, Strategy
from training.loop import Epoch
from training.pack import Pack
from training.pretrain import pretrain

SIZE = Size(height=64, width=64)


@pytest.fixture(scope="module")
def phantoms(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack.build(phantom_store, tmp_path_factory.mktemp("packs") / "pack", SIZE)


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def settings(recipe: str, **changes: object) -> PretrainSettings:
    given = {
        "strategy": recipes.load(recipe),
        "encoder": "small",
        "encoder_width": 4,
        "size": SIZE,
        "epochs": 2,
        "learning_rate": 1e-3,
    }
    return PretrainSettings.model_validate(given | changes)


@pytest.mark.parametrize("recipe", ["dcm", "ce", "ce_dcm", "ce_dcm_log", "ce_tags"])
def test_every_strategy_learns_on_the_same_loop_and_leaves_an_encoder(
    phantoms: Pack, fabric: Fabric, tmp_path: Path, recipe: str
) -> None:
    told: list[Epoch] = []
    info = pretrain(
        settings(recipe), phantoms, fabric, run=tmp_path / "run", after_epoch=told.append
    )
    assert [epoch.number for epoch in told] == [1, 2]
    assert info.finished_at is not None
    assert info.best_epoch in (1, 2)
    assert info.metrics["validation_loss"] == told[info.best_epoch - 1].validation["loss"]
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"run.json", "encoder.pt", "network.pt"}


def test_test_patients_are_never_seen(phantoms: Pack, fabric: Fabric, tmp_path: Path) -> None:
    info = pretrain(settings("ce_dcm"), phantoms, fabric, run=tmp_path / "run")
    assert info.training_frames == len(phantoms.select(split="train"))
    test = phantoms.select(split="test")
    assert len(test)
    pixels = np.array(phantoms.frames)
    pixels[test] = np.random.default_rng(0).integers(0, 256, pixels[test].shape, np.uint8)
    tags = {name: np.array(getattr(phantoms.rows, name)) for name in ("groups", "geometry")}
    tags["groups"][test], tags["geometry"][test] = 255, 0
    others = with_columns(replace(phantoms, frames=pixels), **tags)
    same = pretrain(settings("ce_dcm"), others, fabric, run=tmp_path / "same")
    assert same.metrics == info.metrics
    for name in (runs.ENCODER, runs.NETWORK):
        one, two = (runs.load_state(tmp_path / run / name) for run in ("run", "same"))
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture
def deterministic() -> Iterator[Fabric]:
    yield engine.launch(Engine(accelerator="cpu", precision="32-true", deterministic=True))
    engine.launch(Engine(accelerator="cpu"))


@pytest.mark.parametrize("recipe", ["dcm", "ce_dcm", "ce_tags"])
def test_in_the_deterministic_mode_the_same_seed_gives_the_same_weights(
    phantoms: Pack, deterministic: Fabric, tmp_path: Path, recipe: str
) -> None:
    for run in ("one", "two"):
        pretrain(settings(recipe), phantoms, deterministic, run=tmp_path / run)
    for name in (runs.ENCODER, runs.NETWORK):
        one, two = (runs.load_state(tmp_path / run / name) for run in ("one", "two"))
        assert all(torch.equal(one[key], two[key]) for key in one)
    other = settings(recipe, seed=1)
    pretrain(other, phantoms, deterministic, run=tmp_path / "other")
    three = runs.load_state(tmp_path / "other" / runs.NETWORK)
    assert not all(torch.equal(two[key], three[key]) for key in two)


def test_a_finished_run_is_not_repeated(phantoms: Pack, fabric: Fabric, tmp_path: Path) -> None:
    first = pretrain(settings("dcm"), phantoms, fabric, run=tmp_path / "run")

    def nothing_more(epoch: Epoch) -> None:
        pytest.fail(f"epoch {epoch.number} was trained again")

    again = pretrain(
        settings("dcm"), phantoms, fabric, run=tmp_path / "run", after_epoch=nothing_more
    )
    assert again == first


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("groups", 0, "none of .* has a tag that the strategy 'ce_dcm' learns from: see"),
        ("groups", 4, "bear the same tags: there is nothing to tell apart"),
    ],
)
def test_tags_that_teach_nothing_are_refused_before_time_is_spent(
    phantom_store: Path, fabric: Fabric, tmp_path: Path, column: str, value: int, sentence: str
) -> None:
    opened = pack.build(phantom_store, tmp_path / "pack", SIZE)
    getattr(opened.rows, column)[:] = value
    opened.rows.geometry[:] = 0 if value else len(pack.rows.GEOMETRIES) - 1
    with pytest.raises(StoreError, match=sentence):
        pretrain(settings("ce_dcm"), opened, fabric, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    pretrain(settings("ce", epochs=1), opened, fabric, run=tmp_path / "run")


def test_a_frame_without_tags_is_no_other_kind_where_tags_alone_teach(
    phantoms: Pack, fabric: Fabric, tmp_path: Path
) -> None:
    groups = np.full(len(phantoms), 4, np.uint8)
    groups[phantoms.select(split="train")[0]] = 0
    unknown = np.full(len(phantoms), len(pack.rows.GEOMETRIES) - 1, np.int8)
    one_tag = with_columns(phantoms, groups=groups, geometry=unknown)
    with pytest.raises(StoreError, match="training frames with tags bear the same tags: there is"):
        pretrain(settings("dcm"), one_tag, fabric, run=tmp_path / "dcm")
    assert not (tmp_path / "dcm").exists()
    # a discriminator tells a frame with the tag from one without
    pretrain(settings("ce_dcm", epochs=1), one_tag, fabric, run=tmp_path / "ce_dcm")


def test_tags_that_no_validation_frame_has_are_told_from_a_loss_that_grew(
    phantoms: Pack, fabric: Fabric, tmp_path: Path
) -> None:
    groups, geometry = np.array(phantoms.rows.groups), np.array(phantoms.rows.geometry)
    validation = phantoms.select(split="validation")
    groups[validation], geometry[validation] = 0, len(pack.rows.GEOMETRIES) - 1
    untagged = with_columns(phantoms, groups=groups, geometry=geometry)
    sentence = rf"none of {len(validation)} validation frames has a tag, by which .* more patients"
    with pytest.raises(StoreError, match=sentence):
        pretrain(settings("dcm"), untagged, fabric, run=tmp_path / "dcm")
    assert not (tmp_path / "dcm").exists()
    pretrain(settings("ce_tags", epochs=1), untagged, fabric, run=tmp_path / "ce_tags")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> PretrainSettings:
    """Settings of a pretext of one file, which the program does not ship."""
    folder = REPOSITORY / "tests" / "support" / "pretexts"
    monkeypatch.setattr(pretexts, "__path__", [*pretexts.__path__, str(folder)])
    return settings("ce", strategy=Strategy(name="pairs", pretext="pairs"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack of one clip of four frames a patient."""
    folder = tmp_path_factory.mktemp("clips")
    known = [
        Still(patient=one, fields={"instance": pseudonym(f"clip of {one}"), "frame_number": number})
        for split, count in (("train", 4), ("validation", 3), ("test", 1))
        for one in patients(split, count)
        for number in range(1, 5)
    ]
    return pack.build(filled(folder / "store", known), folder / "pack", SIZE)


def test_a_pretext_of_one_file_draws_its_own_batches(
    clips: Pack, fabric: Fabric, tmp_path: Path, pairs: PretrainSettings
) -> None:
    info = pretrain(pairs, clips, fabric, run=tmp_path / "run")
    assert info.best_epoch in (1, 2)
    assert info.metrics["validation_loss"] > 0
    torch.manual_seed(pairs.seed)
    begun = pretexts.build(pairs).encoder.state_dict()
    learned = runs.load_state(tmp_path / "run" / runs.ENCODER)
    assert begun.keys() == learned.keys()
    assert not all(torch.equal(begun[name], learned[name]) for name in begun)


def test_pairs_are_neighbours_in_a_clip_of_their_split(
    clips: Pack, pairs: PretrainSettings
) -> None:
    rows = clips.select(split="train")
    drawn = pretexts.batches(
        pretexts.build(pairs),
        clips,
        rows,
        batch_size=4,
        seed=0,
        training=True,
        rank=0,
        world=1,
        device=torch.device("cpu"),
    )
    first, second = next(iter(drawn.epoch(1)))["frames"][:, 0].numpy().reshape(2, 4, 64, 64)
    place = {clips.frames[row].tobytes(): row for row in rows}
    for one, two in zip(first, second, strict=True):
        a, b = place[one.tobytes()], place[two.tobytes()]
        assert clips.rows.instance[a] == clips.rows.instance[b]
        assert clips.rows.frame_number[a] + 1 == clips.rows.frame_number[b]


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a pack of 18 patients with tags, one frame each."""
    folder = tmp_path_factory.mktemp("stills")
    known = [
        Still(
            patient=patient,
            fields={
                "geometry": (Geometry.LINEAR, Geometry.CURVILINEAR)[number % 2],
                "groups": frozenset({GROUPS[number % 3]}),
            },
        )
        for split, count in (("train", 12), ("validation", 4), ("test", 2))
        for number, patient in enumerate(patients(split, count))
    ]
    return pack.build(filled(folder / "store", known), folder / "pack", SIZE)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("recipe", ["ce_dcm", "dcm"])
def test_two_processes_pretrain_as_one_does(stills: Pack, tmp_path: Path, recipe: str) -> None:
    books = {}
    for devices in (1, 2):
        out, book = tmp_path / f"run-{devices}", tmp_path / f"book-{devices}"
        book.mkdir()
        words = f"pretrain --recipe {recipe} --pack {stills.folder} --out {out} --encoder small"
        size = "--encoder-width 4 --height 64 --width 64 --epochs 2 --batch-size 6"
        where = f"--accelerator cpu --precision 32-true --devices {devices}"
        launch_module("tests.support.watched", book, *f"{words} {size} {where}".split())
        books[devices] = [runs.load_state(book / f"{rank}.pt") for rank in range(devices)]
    (alone,), (one, two) = books[1], books[2]
    assert len(alone["first"]) == len(one["first"]) == (2 if recipe == "ce_dcm" else 1)
    for turn, gradients in enumerate(alone["first"]):
        assert agree(gradients, one["first"][turn])
        assert any(gradient.abs().max() > 0 for gradient in gradients)
    for weights, others in zip(one["last"], two["last"], strict=True):
        assert all(torch.equal(w, o) for w, o in zip(weights, others, strict=True))
    apart, together = (runs.read(tmp_path / f"run-{devices}") for devices in (1, 2))
    assert together.finished_at is not None
    assert together.metrics == pytest.approx(apart.metrics, rel=1e-2, abs=1e-3)


def test_one_patient_alone_is_refused(fabric: Fabric, tmp_path: Path) -> None:
    fill_store(tmp_path / "store", cohort(seed=0, patients=1))
    opened = pack.build(tmp_path / "store", tmp_path / "pack", SIZE)
    with pytest.raises(StoreError, match=r"1 patient\(s\) have frames .* more patients"):
        pretrain(settings("ce"), opened, fabric, run=tmp_path / "run")


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_pretraining_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    phantoms: Pack, tmp_path: Path
) -> None:
    def started(run: Path) -> subprocess.Popen[bytes]:
        words = f"pretrain --recipe ce_dcm --pack {phantoms.folder} --out {run} --encoder small"
        size = "--height 64 --width 64 --epochs 6 --batch-size 8 --accelerator cpu"
        return subprocess.Popen(
            [sys.executable, "-m", "training", *words.split(), *size.split()],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert started(whole).wait(timeout=90) == 0
    process = started(killed)
    deadline = time.monotonic() + 90
    while not (killed / runs.CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert runs.read(killed).finished_at is None
    assert started(killed).wait(timeout=90) == 0
    one, two = (runs.load_state(run / runs.ENCODER) for run in (whole, killed))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert runs.read(whole).metrics == runs.read(killed).metrics

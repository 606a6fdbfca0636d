"""Pretraining by contrast from beginning to end: alone, in two processes, and killed half-way."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

pytest.importorskip("lightly", reason="pip install --group train")

from tests.conftest import REPOSITORY
from tests.support.clips import SIZE, packed
from tests.support.launching import launch_module
from tests.support.watched import agree
from training import recipes, runs
from training.config import PretrainSettings
from training.loop import Epoch
from training.pack import Pack
from training.pretrain import pretrain

RECIPES = ["uscl", "uscl_code", "supervised", "simclr", "moco_v2"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return packed(tmp_path_factory.mktemp("clips"), train=9, validation=5, frames=3)


def settings(recipe: str) -> PretrainSettings:
    return PretrainSettings(
        strategy=recipes.load(recipe),
        encoder="small",
        encoder_width=4,
        size=SIZE,
        epochs=3,
        batch_size=4,
        learning_rate=1e-3,
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    clips: Pack, tmp_path: Path, recipe: str
) -> None:
    def kill(epoch: Epoch) -> None:
        assert epoch.number == 1
        raise KeyboardInterrupt

    fabric = Fabric(accelerator="cpu", devices=1)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    info = pretrain(settings(recipe), clips, fabric, run=whole)
    assert info.metrics["validation_loss"] > 0
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(recipe), clips, fabric, run=killed, after_epoch=kill)
    assert (killed / runs.CHECKPOINT).exists()
    again = pretrain(settings(recipe), clips, fabric, run=killed)
    assert again.metrics == info.metrics
    one, two = (runs.load_state(run / runs.NETWORK) for run in (whole, killed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("recipe", ["uscl", "moco_v2"])
def test_two_processes_pretrain_as_one_does(clips: Pack, tmp_path: Path, recipe: str) -> None:
    own = tmp_path / "own.yaml"
    half = "{labelled: 0.5}"  # so that processes have as many labels as chance gives them
    options = f"options: {half if recipe == 'uscl' else '{queue: 16}'}\n"
    own.write_text(f"name: own\npretext: {recipes.load(recipe).pretext}\n{options}")
    books = {}
    for devices in (1, 2):
        out, book = tmp_path / f"run-{devices}", tmp_path / f"book-{devices}"
        book.mkdir()
        words = f"pretrain --recipe {own} --pack {clips.folder} --out {out} --encoder small"
        size = "--encoder-width 4 --height 64 --width 64 --epochs 2 --batch-size 4"
        where = f"--accelerator cpu --precision 32-true --devices {devices}"
        launch_module("tests.support.watched", book, *f"{words} {size} {where}".split())
        books[devices] = [runs.load_state(book / f"{rank}.pt") for rank in range(devices)]
    (alone,), (one, two) = books[1], books[2]
    for weights, others in zip(one["last"], two["last"], strict=True):
        assert all(torch.equal(w, o) for w, o in zip(weights, others, strict=True))
    apart, together = (runs.read(tmp_path / f"run-{devices}") for devices in (1, 2))
    assert together.metrics == pytest.approx(apart.metrics, rel=1e-2, abs=1e-3)
    networks = [runs.load_state(tmp_path / f"run-{n}" / runs.NETWORK) for n in (1, 2)]
    first = alone["first"][0], one["first"][0]
    assert any(gradient.abs().max() > 0 for gradient in first[0])
    if recipe == "moco_v2":
        assert agree(*first)
        assert torch.allclose(*(network["queue"] for network in networks), atol=1e-2)
    else:
        # without batch statistics all cosines are near 1, and what is left of the projection's
        # gradient is rounding; test_contrast.py has contrast by itself
        assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-7) for a, b in zip(*first, strict=True))


@pytest.mark.slow
def test_contrast_travels_to_a_machine_without_any_dicom_package() -> None:
    code = (
        "import sys; names = ('pydicom', 'highdicom', 'pynetdicom')\n"
        "sys.modules.update(dict.fromkeys(names))\n"
        "from training import pretexts, recipes\n"
        "from training.config import PretrainSettings\n"
        "for name in ('uscl', 'simclr', 'moco_v2'):\n"
        "    settings = PretrainSettings(strategy=recipes.load(name), encoder='small')\n"
        "    print(type(pretexts.build(settings)).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["Uscl", "SimClr", "MoCo"]
